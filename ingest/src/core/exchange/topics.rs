//! Topics and filters by the standard: what is valid, what matches, whose a topic is. Byte for byte.

use chordae_base::{DeviceId, limits};

use super::request::Denied;

/// Levels from here on are one subject: `chordae/v1/{device}/...`.
const OURS: &str = "chordae/v1/";

fn sound(text: &str) -> Result<(), Denied> {
    if text.is_empty() || text.len() > limits::FILTER_BYTES_MAX || text.contains('\0') {
        return Err(Denied::Invalid);
    }
    match text.split('/').nth(limits::FILTER_DEPTH_MAX) {
        Some(_) => Err(Denied::TooDeep),
        None => Ok(()),
    }
}

/// A topic that may be published to.
///
/// # Errors
/// `Invalid`, `TooDeep`.
pub fn check_topic(topic: &str) -> Result<(), Denied> {
    if topic.contains(['+', '#']) {
        return Err(Denied::Invalid);
    }
    sound(topic)
}

/// A filter, taken apart: the group if it is shared, and what it matches.
///
/// # Errors
/// `Invalid`, `TooDeep`.
pub fn check_filter(filter: &str) -> Result<(Option<&str>, &str), Denied> {
    let (group, rest) = match filter.strip_prefix("$share/") {
        None => (None, filter),
        Some(shared) => {
            let (group, rest) = shared.split_once('/').ok_or(Denied::Invalid)?;
            if group.is_empty() || group.contains(['+', '#']) {
                return Err(Denied::Invalid);
            }
            (Some(group), rest)
        }
    };
    sound(rest)?;
    let mut levels = rest.split('/').peekable();
    while let Some(level) = levels.next() {
        let last = levels.peek().is_none();
        let wild = level.contains(['+', '#']);
        if wild && level != "+" && !(level == "#" && last) {
            return Err(Denied::Invalid);
        }
    }
    Ok((group, rest))
}

/// Whether a filter (without its group) takes a topic.
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for want in filter.split('/') {
        if want == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if want == "+" || want == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// What every topic of a filter begins with: its text before the first wildcard, or before the `/` in
/// front of a closing `#`, which takes the parent too.
pub fn literal_prefix(filter: &str) -> &str {
    let end = filter.find(['+', '#']).unwrap_or(filter.len());
    let head = filter.get(..end).unwrap_or(filter);
    match filter.get(end..) {
        Some("#") => head.strip_suffix('/').unwrap_or(head),
        _ => head,
    }
}

/// The device of a topic of ours.
pub fn device_of(topic: &str) -> Option<&str> {
    topic.strip_prefix(OURS)?.split('/').next()
}

/// Whether a topic tells the status of a device.
pub fn is_status(topic: &str) -> bool {
    let rest = topic.strip_prefix(OURS).and_then(|t| t.split_once('/'));
    rest.is_some_and(|(_, last)| last == "status")
}

/// `chordae/v1/{device}/cmd`
pub fn commands_of(device: &DeviceId) -> String {
    format!("{OURS}{device}/cmd")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_take_what_the_standard_says() {
        for (filter, topic, takes) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            (
                "sport/tennis/player1/#",
                "sport/tennis/player1/score/x",
                true,
            ),
            ("sport/tennis/player1/#", "sport/tennis/player10", false),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "a", true),
            ("#", "$SYS/a", false),
            ("+/monitor", "$SYS/monitor", false),
            ("$SYS/#", "$SYS/a", true),
            ("$SYS/+", "$SYS/a", true),
            ("a/b", "a/B", false),
        ] {
            assert_eq!(matches(filter, topic), takes, "{filter} {topic}");
            if takes {
                assert!(
                    topic.starts_with(literal_prefix(filter)),
                    "{filter} {topic}"
                );
            }
        }
    }

    #[test]
    fn filters_and_topics_are_checked() {
        let deep = |n: usize| vec!["a"; n].join("/");
        for bad in [
            "",
            "a#",
            "#/a",
            "a/#/b",
            "a+/b",
            "+a",
            "a\0",
            "$share/g",
            "$share//a",
            "$share/+/a",
            "$share/g/",
        ] {
            assert_eq!(check_filter(bad), Err(Denied::Invalid), "{bad:?}");
        }
        for bad in ["", "a/#", "a/+/b", "a\0b"] {
            assert_eq!(check_topic(bad), Err(Denied::Invalid), "{bad:?}");
        }
        assert_eq!(check_filter(&deep(17)), Err(Denied::TooDeep));
        assert_eq!(check_topic(&deep(1000)), Err(Denied::TooDeep));
        assert_eq!(check_filter(&"a".repeat(65_535)), Err(Denied::Invalid));
        check_filter(&deep(16)).unwrap();
        check_topic(&deep(16)).unwrap();
        assert_eq!(check_filter("$share/g/a/+"), Ok((Some("g"), "a/+")));
        assert_eq!(check_filter("a//b/#"), Ok((None, "a//b/#")));
    }
}
