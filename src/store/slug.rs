//! Short names for addresses, made of the names that people give.

/// Longest one.
const LEN_MAX: usize = 48;

/// The letters and digits of `name` in lower case, with one `-` for whatever stands between; `otherwise` if there are none.
pub(super) fn slug(name: &str, otherwise: &str) -> String {
    let mut slug = String::new();
    for c in name.chars() {
        if slug.len() == LEN_MAX {
            break;
        }
        match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9') => slug.push(c),
            _ if slug.is_empty() || slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { otherwise.to_owned() } else { slug.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_letters_and_digits_with_single_hyphens_between() {
        for (name, expected) in [
            ("Kelp Farm", "kelp-farm"),
            ("  --Kelp__Farm 2!  ", "kelp-farm-2"),
            ("ÜBER", "ber"),
            ("温度", "thing"),
            ("", "thing"),
            (&"ab ".repeat(40), &"ab-".repeat(16)[..47]),
        ] {
            assert_eq!(slug(name, "thing"), expected, "{name:?}");
        }
    }
}
