//! What a release needs of a machine, such as `virtualization-engine >= 6.1`, and whether a machine has it.
//!
//! A machine is described by facts: words with values, from the agent's settings. Values that begin with a
//! digit are compared as versions (dotted numbers, `6.10` above `6.9`), others as text, for which only equality makes
//! sense. A fact that is missing meets no requirement.

use std::{cmp::Ordering, collections::BTreeMap, fmt, str::FromStr};

/// Most bytes of a requirement's text, and of a fact's name or value.
pub const REQUIREMENT_MAX: usize = 200;

/// What is known about a machine: values by name.
pub type Facts = BTreeMap<String, String>;

/// One condition on a machine's facts. Its text is `NAME OPERATOR VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    name: String,
    operator: Operator,
    value: String,
}

/// A requirement that a machine does not meet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it needs {requirement}, and {}", self.has())]
pub struct Unmet {
    /// What is needed.
    pub requirement: Requirement,
    /// The value that the machine has; `None` if it has none.
    pub found: Option<String>,
}

/// Text that is no requirement.
#[derive(Debug, thiserror::Error)]
#[error(
    "{text:?} is no requirement: write NAME OPERATOR VALUE, as in \"virtualization-engine >= 6.1\" ({reason})"
)]
pub struct RequirementError {
    text: String,
    reason: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

/// Longer operators first: `>=` begins with `>`.
const OPERATORS: [(&str, Operator); 6] = [
    ("!=", Operator::NotEqual),
    ("<=", Operator::AtMost),
    (">=", Operator::AtLeast),
    ("<", Operator::Less),
    (">", Operator::Greater),
    ("=", Operator::Equal),
];

impl Requirement {
    /// Fails unless `facts` meet it.
    pub fn check(&self, facts: &Facts) -> Result<(), Unmet> {
        let found = facts.get(&self.name);
        if found.is_some_and(|found| self.operator.holds(compare(found, &self.value))) {
            return Ok(());
        }
        Err(Unmet { requirement: self.clone(), found: found.cloned() })
    }
}

impl FromStr for Requirement {
    type Err = RequirementError;

    fn from_str(text: &str) -> Result<Self, RequirementError> {
        let fail = |reason| {
            let text = text.chars().take(REQUIREMENT_MAX).collect();
            Err(RequirementError { text, reason })
        };
        if text.len() > REQUIREMENT_MAX || text.chars().any(char::is_control) {
            return fail("it is too long, or holds control characters");
        }
        let Some(at) = text.find(['!', '<', '>', '=']) else { return fail("it has no operator") };
        let (name, rest) = text.split_at(at);
        let parsed =
            OPERATORS.into_iter().find_map(|(sign, operator)| Some((operator, rest.strip_prefix(sign)?)));
        let Some((operator, value)) = parsed else { return fail("it has no operator") };
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || value.is_empty() || name.contains(char::is_whitespace) {
            return fail("name or value is missing, or the name holds a space");
        }
        if value.contains(['!', '<', '>', '=']) {
            return fail("the value holds an operator");
        }
        let is_ordering = !matches!(operator, Operator::Equal | Operator::NotEqual);
        if is_ordering && !is_version(value) {
            return fail("only versions, which begin with a digit, are smaller or larger");
        }
        Ok(Self { name: name.into(), operator, value: value.into() })
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign =
            OPERATORS.iter().find(|(_, operator)| *operator == self.operator).map_or("", |(sign, _)| sign);
        write!(f, "{} {sign} {}", self.name, self.value)
    }
}

impl Unmet {
    fn has(&self) -> String {
        match &self.found {
            Some(found) => format!("this machine has {found}"),
            None => "this machine has no such fact (setting facts)".into(),
        }
    }
}

impl Operator {
    fn holds(self, ordering: Option<Ordering>) -> bool {
        match self {
            Self::Equal => ordering == Some(Ordering::Equal),
            Self::NotEqual => ordering != Some(Ordering::Equal),
            Self::Less => ordering == Some(Ordering::Less),
            Self::AtMost => matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
            Self::Greater => ordering == Some(Ordering::Greater),
            Self::AtLeast => matches!(ordering, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

fn is_version(value: &str) -> bool {
    value.starts_with(|c: char| c.is_ascii_digit())
}

/// How two values relate; `None` if they differ and neither comes before the other.
fn compare(found: &str, wanted: &str) -> Option<Ordering> {
    if is_version(found) && is_version(wanted) {
        return Some(compare_versions(found, wanted));
    }
    (found == wanted).then_some(Ordering::Equal)
}

/// Compares part by part: numbers as numbers, `6` as `6.0`, and a part with letters (`6.1-beta`) as text after
/// its number.
fn compare_versions(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split(['.', '-', '+']), b.split(['.', '-', '+']));
    loop {
        let (left, right) = (a.next(), b.next());
        if left.is_none() && right.is_none() {
            return Ordering::Equal;
        }
        let (left, right) = (part(left.unwrap_or("0")), part(right.unwrap_or("0")));
        let ordering = left.cmp(&right);
        if ordering.is_ne() {
            return ordering;
        }
    }
}

/// A part's leading number (without its leading zeros, so that any length compares as text of that length), and
/// what follows it.
fn part(text: &str) -> (usize, &str, &str) {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    let number = number.trim_start_matches('0');
    (number.len(), number, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meets(requirement: &str, fact: &str) -> bool {
        let facts = Facts::from([("engine".into(), fact.into())]);
        requirement.parse::<Requirement>().unwrap().check(&facts).is_ok()
    }

    #[test]
    fn versions_compare_as_numbers_and_words_as_words() {
        for (requirement, fact) in [
            ("engine >= 6.1", "6.1"),
            ("engine>=6.1", "6.10"),
            ("engine >= 6.9", "6.10"),
            ("engine > 6", "6.0.1"),
            ("engine = 6", "6.0"),
            ("engine <= 6.1", "6.1.0"),
            ("engine < 99999999999999999999999", "99999999999999999999998"),
            ("engine = kvm", "kvm"),
            ("engine != kvm", "xen"),
            ("engine != 5", "kvm"),
        ] {
            assert!(meets(requirement, fact), "{requirement} with {fact}");
        }
        for (requirement, fact) in [
            ("engine >= 6.1", "6.0.9"),
            ("engine >= 6.10", "6.9"),
            ("engine >= 6.1", "kvm"),
            ("engine < 6.1", "kvm"),
            ("engine = kvm", "KVM"),
            ("engine != kvm", "kvm"),
            ("other >= 1", "6"),
        ] {
            assert!(!meets(requirement, fact), "{requirement} with {fact}");
        }
    }

    #[test]
    fn what_is_missing_is_said_in_words() {
        let requirement: Requirement = "virtualization-engine >= 6.1".parse().unwrap();
        let unmet = requirement.check(&Facts::new()).unwrap_err().to_string();
        assert!(unmet.contains("virtualization-engine >= 6.1") && unmet.contains("no such fact"), "{unmet}");
        let facts = Facts::from([("virtualization-engine".into(), "5".into())]);
        assert!(requirement.check(&facts).unwrap_err().to_string().ends_with("this machine has 5"));
    }

    #[test]
    fn other_text_is_refused_and_the_written_form_reads_back() {
        let long = format!("engine = {}", "x".repeat(REQUIREMENT_MAX));
        for text in
            ["", "engine", ">= 6", "engine >=", "a b = c", "engine >= kvm", "engine == 6", "a = b\n", &long]
        {
            assert!(text.parse::<Requirement>().is_err(), "{text:?} was accepted");
        }
        let requirement: Requirement = "engine>=6.1".parse().unwrap();
        assert_eq!(requirement.to_string(), "engine >= 6.1");
        assert_eq!(requirement.to_string().parse::<Requirement>().unwrap(), requirement);
    }
}
