//! Edits that know JSON: what comes out can be read, and says something else.

use super::Mutator;
use serde_json::{Value, json};

/// Stands for the name of a member that shall come twice, until the text is written.
const TWICE: &str = "\u{1}twice";

impl Mutator {
    /// `good` with one to three edits, written in one of two styles; `other` is a document of the same kind, from
    /// which values are taken. Bytes that are no JSON come back as they are.
    pub fn json(&mut self, good: &[u8], other: &[u8]) -> Vec<u8> {
        let Ok(mut document) = serde_json::from_slice::<Value>(good) else { return good.to_vec() };
        let other = serde_json::from_slice::<Value>(other).unwrap_or_default();
        let mut doubled = None;
        for _ in 0..=self.below(3) {
            doubled = self.edit(&mut document, &other).or(doubled);
        }
        let written = if self.below(2) == 0 {
            serde_json::to_string(&document)
        } else {
            serde_json::to_string_pretty(&document)
        };
        let written = written.unwrap_or_default();
        // serde_json writes the control character as \u0001.
        written.replace("\\u0001twice", &doubled.unwrap_or_default()).into_bytes()
    }

    /// Edits a value somewhere inside; returns a member's name that shall come twice.
    fn edit(&mut self, document: &mut Value, other: &Value) -> Option<String> {
        let mut paths = Vec::new();
        collect(document, String::new(), &mut paths);
        let path = self.one_of(&paths).clone();
        let same_place = other.pointer(&path).cloned();
        let value = document.pointer_mut(&path)?;
        if let Some(theirs) = same_place
            && self.below(4) == 0
        {
            *value = theirs;
            return None;
        }
        match value {
            Value::Object(members) if !members.is_empty() => {
                let names: Vec<String> = members.keys().cloned().collect();
                let name = self.one_of(&names).clone();
                match self.below(4) {
                    0 => drop(members.remove(&name)),
                    1 => drop(members.insert("x-unknown".into(), self.value())),
                    2 => drop(members.insert(self.text(&name), self.value())),
                    _ => {
                        members.insert(TWICE.into(), self.value());
                        return Some(name);
                    }
                }
            }
            Value::Array(items) if !items.is_empty() => {
                let at = self.below(items.len());
                match self.below(4) {
                    0 => drop(items.remove(at)),
                    1 => items.push(items[at].clone()),
                    2 => items.insert(at, self.value()),
                    _ => items.swap(at, 0),
                }
            }
            Value::Number(number) => {
                let number = number.as_u64().unwrap_or_default();
                *value = self
                    .one_of(&[
                        json!(number.wrapping_add(1)),
                        json!(number.wrapping_sub(1)),
                        json!(0),
                        json!(u64::MAX),
                        json!(-1),
                        json!(number as f64),
                        json!(number.to_string()),
                    ])
                    .clone();
            }
            Value::String(text) => *text = self.text(text),
            Value::Null | Value::Bool(_) | Value::Object(_) | Value::Array(_) => *value = self.value(),
        }
        None
    }

    fn text(&mut self, text: &str) -> String {
        let characters: Vec<char> = text.chars().collect();
        let at = self.below(characters.len() + 1);
        let (before, after) = characters.split_at(at);
        let changed: String = match self.below(6) {
            0 => return text.to_ascii_uppercase(),
            1 => return String::new(),
            2 => before.iter().collect(),
            3 => before.iter().chain(['0', '\0', '/', '\u{e9}'].get(at % 4)).chain(after).collect(),
            4 => before.iter().chain(&['1']).chain(after.iter().skip(1)).collect(),
            _ => after.iter().chain(before).collect(),
        };
        changed
    }

    fn value(&mut self) -> Value {
        let deep = (0..100).fold(json!([]), |inner, _| json!([inner]));
        self.one_of(&[
            json!(null),
            json!(true),
            json!(0),
            json!(""),
            json!({}),
            json!([]),
            json!("ab".repeat(32)),
            deep,
        ])
        .clone()
    }
}

/// Pointers (RFC 6901) to `value` and to everything inside of it.
fn collect(value: &Value, path: String, paths: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let name = name.replace('~', "~0").replace('/', "~1");
                collect(member, format!("{path}/{name}"), paths);
            }
        }
        Value::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                collect(item, format!("{path}/{number}"), paths);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    paths.push(path);
}
