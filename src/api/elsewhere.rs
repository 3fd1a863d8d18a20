//! Services that clients know and this server does not have. A route for each answers in the shape that clients expect: nothing where they ask what
//! there is, and a refusal in words where they want something done, so that they can say why.
//!
//! [`rows`] says which and what; everything else follows from that, the API's description included.

mod rows;

use std::collections::HashMap;

use axum::extract::{FromRequest, Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter};
use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, Paths};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{ContentBuilder, ResponseBuilder};
use utoipa_axum::router::UtoipaMethodRouter;

use super::Context;
use super::access::TOKEN;
use super::error::ApiError;
use super::json::ok_written;
use super::place::Place;
use super::request::{Call, Unread, is_upload};

/// A route.
struct Row {
    verb: Verb,
    path: &'static str,
    wants: Wants,
    says: Says,
}

/// What is done there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Verb {
    Get,
    Put,
    Post,
    Delete,
    Patch,
}

/// Who is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wants {
    /// Anybody.
    Nobody,
    /// Whoever has an account.
    Account,
    /// Whoever has a token with this scope.
    Scope(&'static str),
}

/// What is answered.
#[derive(Clone, Copy)]
enum Says {
    /// There is nothing of the kind, in this JSON.
    Nothing(&'static str),
    /// There is no such thing, in these words.
    NoSuch(&'static str),
    /// This server cannot do it, in these words.
    Cannot(&'static str),
}

/// All of them, with what is said of them.
pub(super) fn routes() -> impl Iterator<Item = UtoipaMethodRouter<Context>> {
    rows::SUBJECTS.iter().flat_map(|(subject, rows)| rows.iter().map(move |row| row.route(subject)))
}

impl Row {
    fn route(&'static self, subject: &str) -> UtoipaMethodRouter<Context> {
        let handler = move |State(context): State<Context>, Path(parameters): Path<HashMap<String, String>>, request: Request| async move {
            self.answer(&context, &parameters, request).await
        };
        let mut paths = Paths::new();
        paths.add_path_operation(self.path, vec![self.verb.described()], self.operation(subject));
        (Vec::new(), paths, MethodRouter::new().on(self.verb.filter(), handler))
    }

    fn operation(&self, subject: &str) -> Operation {
        let (status, description) = match self.says {
            Says::Nothing(_) => (StatusCode::OK, "There is none."),
            Says::NoSuch(text) => (StatusCode::NOT_FOUND, text),
            Says::Cannot(text) => (StatusCode::NOT_IMPLEMENTED, text),
        };
        let object = ObjectBuilder::new().schema_type(Type::Object).build();
        let content = ContentBuilder::new().schema(Some(object)).build();
        let response = ResponseBuilder::new().description(description).content("application/json", content).build();
        let security = match self.wants {
            Wants::Nobody => SecurityRequirement::default(),
            Wants::Account => SecurityRequirement::new::<_, [&str; 0], &str>(TOKEN, []),
            Wants::Scope(scope) => SecurityRequirement::new(TOKEN, [scope]),
        };
        let summary = "This server has none of it.";
        OperationBuilder::new().tag(subject).summary(Some(summary)).security(security).response(status.as_str(), response).build()
    }

    async fn answer(&self, context: &Context, parameters: &HashMap<String, String>, request: Request) -> Result<Response, ApiError> {
        if self.wants != Wants::Nobody {
            let place = place(request, context).await?;
            if let Some(device) = self.device(parameters) {
                context.device_in(&place, device)?;
            }
        }
        match self.says {
            Says::Nothing(json) => Ok(ok_written(json.into())),
            Says::NoSuch(text) => Err(ApiError::api(StatusCode::NOT_FOUND, text)),
            Says::Cannot(text) => Err(ApiError::not_implemented(text)),
        }
    }

    /// The device that the path is about. Where a device may stand or something else, only what is read is a device's.
    fn device<'a>(&self, parameters: &'a HashMap<String, String>) -> Option<&'a str> {
        let of = || parameters.get("of").filter(|_| self.verb == Verb::Get);
        parameters.get("device").or_else(of).map(String::as_str)
    }
}

/// Where a request acts whose caller may make it. Files that come with it are let go by.
async fn place(request: Request, context: &Context) -> Result<Place, ApiError> {
    if is_upload(request.headers()) {
        return Ok(Unread::from_request(request, context).await?.place);
    }
    Ok(Call::from_request(request, context).await?.place)
}

impl Verb {
    fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Put => MethodFilter::PUT,
            Self::Post => MethodFilter::POST,
            Self::Delete => MethodFilter::DELETE,
            Self::Patch => MethodFilter::PATCH,
        }
    }

    fn described(self) -> HttpMethod {
        match self {
            Self::Get => HttpMethod::Get,
            Self::Put => HttpMethod::Put,
            Self::Post => HttpMethod::Post,
            Self::Delete => HttpMethod::Delete,
            Self::Patch => HttpMethod::Patch,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn all() -> impl Iterator<Item = &'static Row> {
        rows::SUBJECTS.iter().flat_map(|(_, rows)| rows.iter())
    }

    #[test]
    fn every_answer_is_a_json_object_and_no_refusal_logs_anybody_out() {
        for row in all() {
            match row.says {
                Says::Nothing(json) => {
                    assert!(serde_json::from_str::<serde_json::Value>(json).is_ok_and(|json| json.is_object()), "{}", row.path);
                }
                Says::NoSuch(text) | Says::Cannot(text) => assert!(!text.to_lowercase().contains("access token"), "{}", row.path),
            }
        }
    }

    #[test]
    fn no_route_stands_there_twice() {
        let mut seen = HashSet::new();
        for row in all() {
            assert!(seen.insert((row.verb, row.path)), "{:?} {}", row.verb, row.path);
        }
    }
}
