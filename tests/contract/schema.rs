//! A value against a schema of Belvo's API description: the keywords that `tests/openapi-schemas.json` has, and no others.
//! Stricter than OpenAPI in one thing: a member that is not declared is a fault, because nobody but us can have made it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime};
use uuid::Uuid;

/// The one pattern that is checked: the form of request ids and sessions.
const HEX_32: &str = "[a-f0-9]{32}";

/// Where a value is not as described, and how. The items of an array are all called `[]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fault {
    pub(crate) place: String,
    pub(crate) what: String,
}

/// The schemas that others refer to.
pub(crate) type Named = BTreeMap<String, Value>;

/// All that is wrong with `value`.
pub(crate) fn faults(named: &Named, schema: &Value, value: &Value) -> Vec<Fault> {
    let mut check = Check {
        named,
        faults: Vec::new(),
    };
    check.value(schema, value, "", false);
    check.faults
}

struct Check<'a> {
    named: &'a Named,
    faults: Vec<Fault>,
}

impl<'a> Check<'a> {
    /// `open` when the value may have members that another schema declares.
    fn value(&mut self, schema: &'a Value, value: &Value, place: &str, open: bool) {
        let schema = self.resolved(schema);
        if value.is_null() && schema.get("nullable") == Some(&Value::Bool(true)) {
            return;
        }
        for (keyword, rule) in schema {
            match keyword.as_str() {
                "type" => self.expect(is_a(value, text(rule)), place, "not a ", text(rule)),
                "enum" => self.expect(
                    list(rule).contains(value),
                    place,
                    "not one of the ",
                    keyword,
                ),
                "format" => self.expect(has_format(value, text(rule)), place, "not a ", text(rule)),
                "pattern" => self.expect(has_pattern(value, text(rule)), place, "not ", text(rule)),
                "minimum" => self.expect(
                    value.as_f64() >= rule.as_f64(),
                    place,
                    "below its ",
                    keyword,
                ),
                "maximum" => self.expect(
                    value.as_f64() <= rule.as_f64(),
                    place,
                    "above its ",
                    keyword,
                ),
                "required" => self.required(list(rule), value, place),
                "properties" => self.members(map(rule), value, place, open),
                "items" => self.items(rule, value, place),
                "allOf" => {
                    for part in list(rule) {
                        self.value(part, value, place, true);
                    }
                }
                "oneOf" | "anyOf" => self.any(list(rule), value, place),
                "nullable" => {}
                other => panic!("{place}: the keyword {other} is not known"),
            }
        }
    }

    fn resolved(&self, schema: &'a Value) -> &'a Map<String, Value> {
        let schema = map(schema);
        match schema.get("$ref") {
            Some(name) => map(&self.named[text(name)]),
            None => schema,
        }
    }

    fn expect(&mut self, holds: bool, place: &str, how: &str, what: &str) {
        if !holds {
            self.faults.push(Fault {
                place: place.to_owned(),
                what: format!("{how}{what}"),
            });
        }
    }

    fn required(&mut self, names: &[Value], value: &Value, place: &str) {
        let Some(members) = value.as_object() else {
            return;
        };
        for name in names.iter().map(text) {
            self.expect(
                members.contains_key(name),
                &below(place, name),
                "missing",
                "",
            );
        }
    }

    fn members(
        &mut self,
        declared: &'a Map<String, Value>,
        value: &Value,
        place: &str,
        open: bool,
    ) {
        for (name, member) in value.as_object().into_iter().flatten() {
            let place = below(place, name);
            match declared.get(name) {
                Some(schema) => self.value(schema, member, &place, false),
                None => self.expect(open, &place, "not declared", ""),
            }
        }
    }

    fn items(&mut self, schema: &'a Value, value: &Value, place: &str) {
        for item in value.as_array().into_iter().flatten() {
            self.value(schema, item, &format!("{place}[]"), false);
        }
    }

    /// As few faults as any of the alternatives finds. Belvo's alternatives overlap, so `oneOf` is no stricter.
    fn any(&mut self, alternatives: &'a [Value], value: &Value, place: &str) {
        let tried = alternatives.iter().map(|schema| {
            let mut check = Check {
                named: self.named,
                faults: Vec::new(),
            };
            check.value(schema, value, place, false);
            check.faults
        });
        let best = tried.min_by_key(Vec::len);
        self.faults.extend(best.unwrap_or_default());
    }
}

fn is_a(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("the type {other} is not known"),
    }
}

/// A value of another type is a fault of its type, not of its format.
fn has_format(value: &Value, format: &str) -> bool {
    let Some(text) = value.as_str() else {
        return true;
    };
    match format {
        "uuid" => text.len() == 36 && Uuid::try_parse(text).is_ok(),
        "date" => Date::parse(text, format_description!("[year]-[month]-[day]")).is_ok(),
        "date-time" => OffsetDateTime::parse(text, &Rfc3339).is_ok(),
        other => panic!("the format {other} is not known"),
    }
}

fn has_pattern(value: &Value, pattern: &str) -> bool {
    assert_eq!(pattern, HEX_32, "no other pattern is known");
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    value
        .as_str()
        .is_none_or(|text| text.len() == 32 && text.bytes().all(is_hex))
}

fn below(place: &str, name: &str) -> String {
    let dot = if place.is_empty() { "" } else { "." };
    format!("{place}{dot}{name}")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("the keyword has a string")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("the keyword has an array")
}

fn map(value: &Value) -> &Map<String, Value> {
    value.as_object().expect("a schema is an object")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The faults as `place: what`.
    fn found(schema: &Value, value: &Value) -> Vec<String> {
        let named = Named::from([(
            "Pair".to_owned(),
            json!({"type": "array", "items": {"type": "integer"}}),
        )]);
        let faults = faults(&named, schema, value);
        faults
            .iter()
            .map(|fault| format!("{}: {}", fault.place, fault.what))
            .collect()
    }

    fn account() -> Value {
        json!({
            "type": "object",
            "required": ["id", "balance"],
            "properties": {
                "id": {"type": "string", "format": "uuid"},
                "balance": {"type": "number", "nullable": true},
                "day": {"type": "string", "format": "date"},
                "at": {"type": "string", "format": "date-time"},
                "kind": {"type": "string", "enum": ["A", "B"]},
                "pair": {"$ref": "Pair"},
                "month": {"type": "integer", "minimum": 1, "maximum": 12},
            },
        })
    }

    #[test]
    fn a_right_object_has_no_faults() {
        let right = json!({
            "id": "16f68516-bcbc-4cf7-b815-c500d4204e28", "balance": null, "day": "2026-02-28",
            "at": "2026-02-28T10:00:00.123+00:00", "kind": "B", "pair": [1, 2], "month": 12,
        });
        assert_eq!(found(&account(), &right), [""; 0]);
    }

    #[test]
    fn a_wrong_object_has_each_of_its_faults_found() {
        let wrong = json!({
            "id": "16f68516", "day": "2026-02-30", "at": "2026-02-28 10:00", "kind": "C", "pair": [1, 2.5],
            "month": 13, "other": 1,
        });
        let mut all = found(&account(), &wrong);
        all.sort();
        let expected = [
            "at: not a date-time",
            "balance: missing",
            "day: not a date",
            "id: not a uuid",
            "kind: not one of the enum",
            "month: above its maximum",
            "other: not declared",
            "pair[]: not a integer",
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn null_is_right_only_where_it_is_declared() {
        let null = json!({"id": null, "balance": null});
        assert_eq!(found(&account(), &null), ["id: not a string"]);
    }

    #[test]
    fn a_value_of_another_type_is_told_once() {
        assert_eq!(found(&account(), &json!([])), [": not a object"]);
        let number = json!({"type": "string", "pattern": HEX_32});
        assert_eq!(found(&number, &json!(1)), [": not a string"]);
        assert_eq!(found(&number, &json!("xyz")), [": not [a-f0-9]{32}"]);
    }

    #[test]
    fn one_alternative_is_enough_and_all_parts_are_needed() {
        let (string, integer) = (json!({"type": "string"}), json!({"type": "integer"}));
        let any = json!({"oneOf": [string, integer]});
        assert_eq!(found(&any, &json!(1)), [""; 0]);
        assert_eq!(found(&any, &json!(1.5)), [": not a string"]);
        let part = |name: &str| json!({"properties": {name: {"type": "string"}}});
        let all = json!({"allOf": [part("a"), part("b")]});
        assert_eq!(found(&all, &json!({"a": "1", "b": "2"})), [""; 0]);
        assert_eq!(found(&all, &json!({"a": 1, "b": 2})).len(), 2);
    }
}
