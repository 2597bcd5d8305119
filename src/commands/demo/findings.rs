//! What the demo claims, and whether it was so. It only collects and prints; what is true is decided where it is seen.

use std::time::Duration;

use anyhow::bail;

/// Claims in the order they were checked.
#[derive(Debug, Default)]
pub(super) struct Findings {
    claims: Vec<(bool, String)>,
}

impl Findings {
    /// Notes whether `claim` was true.
    pub(super) fn check(&mut self, held: bool, claim: impl Into<String>) {
        self.claims.push((held, claim.into()));
    }

    pub(super) fn print(&self) {
        println!("\nWhat was true");
        for (held, claim) in &self.claims {
            println!("   {} {claim}", if *held { "yes " } else { "NO  " });
        }
    }

    /// An error when anything that was shown was not so.
    pub(super) fn conclude(&self, log: &str) -> anyhow::Result<()> {
        let untrue: Vec<&str> = self
            .claims
            .iter()
            .filter(|(held, _)| !held)
            .map(|(_, claim)| claim.as_str())
            .collect();
        if !untrue.is_empty() {
            bail!(
                "not true: {}; what the gateway did is in {log}",
                untrue.join("; and ")
            );
        }
        Ok(())
    }
}

/// Milliseconds with one digit, as every column of the demo has them.
pub(super) fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// A count with its thousands set apart.
pub(super) fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let first = digits.len() % 3;
    let mut text = digits[..first].to_owned();
    for group in digits.as_bytes()[first..].chunks(3) {
        if !text.is_empty() {
            text.push(',');
        }
        text.extend(group.iter().map(|digit| char::from(*digit)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_untrue_claim_is_an_error_that_names_it() {
        let mut findings = Findings::default();
        findings.check(true, "water is wet");
        assert!(findings.conclude("LOG").is_ok());
        findings.check(false, "fire is cold");
        let error = findings.conclude("LOG").expect_err("a claim was not true");
        assert_eq!(
            error.to_string(),
            "not true: fire is cold; what the gateway did is in LOG"
        );
    }

    #[test]
    fn counts_are_readable() {
        let read = [7, 70, 700, 2500, 1_234_567].map(grouped);
        assert_eq!(read, ["7", "70", "700", "2,500", "1,234,567"]);
    }
}
