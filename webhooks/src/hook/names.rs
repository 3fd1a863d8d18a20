//! What templates of a hook name, as far as it costs something to have it at hand.

use serde_json::{Map, Value as Json};

/// What is named somewhere. A name that stands where nothing is filled in counts too: it costs a little and harms nobody.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Names {
    /// Anything at all.
    pub any: bool,
    /// The event as a whole.
    pub whole: bool,
    /// The product of the device, or else its kind of hardware.
    pub product: bool,
    /// The version of its product's firmware.
    pub version: bool,
    /// Whoever has claimed it.
    pub user: bool,
}

impl Names {
    /// Those in a definition. What changes the marks of tags stands in a tag itself.
    pub(super) fn of(definition: &Map<String, Json>) -> Self {
        let mut names = Self::default();
        definition.iter().for_each(|(key, value)| names.look(key, value));
        names
    }

    fn look(&mut self, key: &str, value: &Json) {
        self.read(key);
        match value {
            Json::String(text) => self.read(text),
            Json::Array(items) => items.iter().for_each(|item| self.look("", item)),
            Json::Object(members) => members.iter().for_each(|(key, value)| self.look(key, value)),
            Json::Null | Json::Bool(_) | Json::Number(_) => {}
        }
    }

    fn read(&mut self, text: &str) {
        if !text.contains("{{") {
            return;
        }
        let whole = ["PARTICLE_EVENT_JSON", "PARTICLE_EVENT_BASE64"].iter().any(|name| text.contains(name));
        let names = |name| whole || text.contains(name);
        self.any = true;
        self.whole |= whole;
        self.product |= names("PRODUCT_ID");
        self.version |= names("PRODUCT_VERSION");
        self.user |= names("PRODUCT_USER_ID");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(definition: Json) -> Names {
        Names::of(definition.as_object().unwrap())
    }

    #[test]
    fn names_are_found_wherever_a_template_may_stand() {
        assert_eq!(names(json!({ "event": "PRODUCT_ID", "url": "https://example.com" })), Names::default());
        assert_eq!(names(json!({ "url": "https://example.com/{{place}}" })), Names { any: true, ..Names::default() });
        let version = Names { any: true, version: true, ..Names::default() };
        assert_eq!(names(json!({ "json": { "a": [1, { "{{{PRODUCT_VERSION}}}": true }] } })), version);
        assert_eq!(names(json!({ "body": "{{=<% %>=}}<% PRODUCT_VERSION %>" })), version);
        let all = Names { any: true, whole: true, product: true, version: true, user: true };
        assert_eq!(names(json!({ "query": { "e": "{{{PARTICLE_EVENT_BASE64}}}" } })), all);
    }
}
