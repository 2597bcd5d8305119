//! An error with its causes as one sentence. Knows no error in particular.

use std::error::Error;

/// The error and what caused it, outermost first; a cause that was said already is not said again.
pub fn sentence(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::files::ReadError;
    use std::io;
    use std::path::Path;

    #[test]
    fn a_cause_is_said_once() {
        let read = ReadError::new(Path::new("/x"), io::ErrorKind::NotFound.into());
        let error = anyhow::Error::from(read).context("no configuration");
        assert_eq!(
            sentence(error.as_ref()),
            "no configuration: cannot read /x: entity not found; create it or correct the path"
        );
    }
}
