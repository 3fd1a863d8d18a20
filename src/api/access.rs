//! What each route wants of its caller, taken from the API's description: what is written there is what is enforced, and there is no other place.

use std::collections::HashMap;

use axum::http::Method;
use utoipa::openapi::OpenApi;

use super::error::ApiError;
use crate::store::Scopes;

/// The security scheme of tokens, as the description calls it.
pub(super) const TOKEN: &str = "token";

/// The kind of body that has files in it.
const FILES: &str = "multipart/form-data";

/// What a route wants of its caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Need {
    /// Nothing, or what its handler looks at by itself: a password, a claim of one's own token.
    Nothing,
    /// A token of an account, with whatever scopes.
    Account,
    /// A token with this scope.
    Scope(String),
}

/// What a route wants, and whether its body may have files in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wants {
    pub(super) need: Need,
    pub(super) takes_files: bool,
}

/// What a route wants that the description does not know.
static UNDESCRIBED: Wants = Wants { need: Need::Account, takes_files: false };

/// The needs of all routes.
#[derive(Clone, Debug, Default)]
pub(super) struct Needs(HashMap<String, Vec<(Method, Wants)>>);

impl Needs {
    /// Those that `description` speaks of, whose paths are still written as the router has them.
    pub(super) fn of(description: &OpenApi) -> Self {
        let mut needs = Self::default();
        for (path, item) in &description.paths.paths {
            let operations = [
                (Method::GET, &item.get),
                (Method::PUT, &item.put),
                (Method::POST, &item.post),
                (Method::DELETE, &item.delete),
                (Method::PATCH, &item.patch),
            ];
            let here = operations.into_iter().filter_map(|(method, operation)| {
                let operation = operation.as_ref()?;
                let security = serde_json::to_value(&operation.security).unwrap_or_default();
                let body = serde_json::to_value(&operation.request_body).unwrap_or_default();
                Some((method, Wants { need: need(&security), takes_files: body["content"].get(FILES).is_some() }))
            });
            needs.0.entry(path.clone()).or_default().extend(here);
        }
        needs
    }

    /// All that are known, with the paths of their routes.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &Method, &Need)> {
        self.0.iter().flat_map(|(path, here)| here.iter().map(move |(method, wants)| (path.as_str(), method, &wants.need)))
    }

    /// Reads a list of scopes, each of which some route wants.
    ///
    /// # Errors
    /// A word is no scope, or one that nothing wants.
    pub(super) fn scopes(&self, text: &str) -> Result<Scopes, ApiError> {
        let scopes = Scopes::parse(text).map_err(|error| ApiError::bad_request(&error.to_string()))?;
        match scopes.list().into_iter().find(|scope| scopes != Scopes::All && !self.knows(scope)) {
            Some(unknown) => Err(ApiError::bad_request(&format!("There is no scope {unknown}"))),
            None => Ok(scopes),
        }
    }

    /// Whether a route wants this scope, or one of the object if every action on it is meant.
    fn knows(&self, scope: &str) -> bool {
        let object = scope.strip_suffix('*');
        let is_meant = |wanted: &str| object.map_or(wanted == scope, |object| wanted.starts_with(object));
        self.all().any(|(.., need)| matches!(need, Need::Scope(wanted) if is_meant(wanted)))
    }

    /// What the route at `path` wants, as the router has that written. One that the description does not know wants an account.
    pub(super) fn at(&self, method: &Method, path: &str) -> &Wants {
        // What is asked by HEAD is what GET tells.
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let mut here = self.0.get(path).into_iter().flatten();
        here.find(|(other, _)| other == method).map_or(&UNDESCRIBED, |(_, wants)| wants)
    }
}

/// Of alternatives as OpenAPI has them, of which ours are one at most.
fn need(security: &serde_json::Value) -> Need {
    match security[0][TOKEN].as_array().map(Vec::as_slice) {
        None => Need::Nothing,
        Some([]) => Need::Account,
        Some([scope, ..]) => Need::Scope(scope.as_str().unwrap_or_default().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_described_is_what_is_needed() {
        for (security, expected) in [
            (json!([{}]), Need::Nothing),
            (json!(null), Need::Nothing),
            (json!([{"token": []}]), Need::Account),
            (json!([{"token": ["devices:list"]}]), Need::Scope("devices:list".into())),
        ] {
            assert_eq!(need(&security), expected, "{security}");
        }
        assert_eq!(Needs::default().at(&Method::GET, "/v1/unknown").need, Need::Account);
    }
}
