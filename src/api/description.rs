//! The API's description in OpenAPI 3.1: what the handlers say of themselves, and what all of them have in common.

use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, ContentBuilder, Info, License, OpenApi, PathItem, Ref, RefOr, Required, ResponseBuilder};

use super::access::TOKEN;
use crate::about;

/// A description without routes.
pub(super) fn opening() -> OpenApi {
    let mut info = Info::new("Holdfast", about::VERSION);
    let text = "Devices, their functions, variables and events. Bodies are JSON or forms; a token stands in the Authorization header, in the query \
                or in the body as access_token. Whoever says in Request-Timeout for how many seconds it waits is not served later. A request that \
                changes something and is repeated with the same Idempotency-Key is done once. A refusal that passes says so in Retry-After.";
    info.description = Some(text.to_owned());
    info.license = Some(License::new("MIT OR Apache-2.0"));
    let mut description = OpenApi::new(info, utoipa::openapi::Paths::new());
    let mut components = Components::new();
    let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("A token of an account, or of an API user.")).build();
    components.add_security_scheme(TOKEN, SecurityScheme::Http(token));
    components.schemas.insert("Refusal".to_owned(), refusal().into());
    description.components = Some(components);
    description
}

/// What came of a request that was not served.
fn refusal() -> utoipa::openapi::Schema {
    let text = |description| ObjectBuilder::new().schema_type(Type::String).description(Some(description)).build();
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some("Why a request was not served. Which members there are depends on the route; one says it in words."))
        .property("error", text("What is wrong, in words or as a code."))
        .property("error_description", text("What is wrong with a token or a login, in words."))
        .property("info", text("More about it."))
        .build()
        .into()
}

/// The finished description: paths as OpenAPI writes them, the parameters in them, and the refusals that any request may meet.
pub(super) fn finish(mut description: OpenApi) -> OpenApi {
    description.paths.paths = std::mem::take(&mut description.paths.paths)
        .into_iter()
        .map(|(path, mut item)| {
            operations(&mut item).for_each(|(method, operation)| {
                // Whoever makes a client from this names its calls so.
                operation.operation_id = Some(operation_id(method, &path));
                complete(operation, &path);
            });
            (path.replace("{*", "{"), item)
        })
        .collect();
    description
}

/// Every operation at a path, with its method.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let operations = [
        ("get", &mut item.get),
        ("put", &mut item.put),
        ("post", &mut item.post),
        ("delete", &mut item.delete),
        ("patch", &mut item.patch),
    ];
    operations.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// A name that no other operation has: `get_v1_devices_device`.
fn operation_id(method: &str, path: &str) -> String {
    let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    [method].into_iter().chain(words).collect::<Vec<_>>().join("_")
}

fn complete(operation: &mut Operation, path: &str) {
    let known = operation.parameters.get_or_insert_default();
    let is_known = |name: &&str| known.iter().any(|parameter| matches!(parameter, RefOr::T(parameter) if parameter.name == **name));
    let missing: Vec<RefOr<Parameter>> = names(path).filter(|name| !is_known(name)).map(|name| path_parameter(name).into()).collect();
    known.splice(0..0, missing);
    let refusal = || {
        let content = ContentBuilder::new().schema(Some(RefOr::Ref(Ref::from_schema_name("Refusal")))).build();
        ResponseBuilder::new().description("It was not served.").content("application/json", content).build()
    };
    for status in ["4XX", "5XX"] {
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| refusal().into());
    }
}

fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).map(|name| name.trim_start_matches('*'))
}

fn path_parameter(name: &str) -> Parameter {
    let description = match name {
        "device" => "The id of a device, 24 hexadecimal digits, or its name.",
        "product" => "The number of a product, or its slug.",
        "prefix" => "How the names of events begin. It may have slashes.",
        "function" | "variable" | "name" => "Its name.",
        _ => "Which one.",
    };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).build()))
        .build()
}
