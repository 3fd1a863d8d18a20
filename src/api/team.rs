//! Who looks after a product: people, and programs that have a token of their own.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use utoipa::ToSchema;

use super::Context;
use super::error::ApiError;
use super::json::ok;
use super::request::Call;
use crate::store::registry::{ApiUser, IssuedApiUser};
use crate::store::{Role, Scopes};

/// A path with a member of the team in it.
#[derive(Deserialize)]
pub(super) struct OfMember {
    username: String,
}

/// Who shall be in the team: a person by `username`, or a program by `friendly_name` and `scopes`.
#[derive(Deserialize, ToSchema, Default)]
#[serde(default)]
pub(super) struct MemberFields {
    /// The address of an account.
    username: Option<String>,
    /// `viewer`, `developer` or `administrator`; a developer if it is not said.
    role: Option<String>,
    /// What people call the program.
    friendly_name: Option<String>,
    /// What the program may do, such as `devices:list`.
    scopes: Option<Vec<String>>,
}

fn scopes(context: &Context, list: &[String]) -> Result<Scopes, ApiError> {
    context.needs().scopes(&list.join(" "))
}

fn role(word: Option<&str>) -> Result<Role, ApiError> {
    let read = word.map_or(Ok(Role::Developer), str::parse);
    read.map_err(|()| ApiError::bad_request("role is one of viewer, developer, administrator"))
}

fn program(user: &ApiUser) -> Json {
    json!({ "username": user.username, "friendly_name": user.friendly_name, "is_programmatic": true, "scopes": user.scopes.list() })
}

/// The only answer that has the token.
fn issued(IssuedApiUser { user, token }: &IssuedApiUser) -> Json {
    let mut object = program(user);
    object["tokens"] = json!([{ "token": token.reveal() }]);
    object
}

/// `GET /v1/products/{product}/team`
#[utoipa::path(get, path = "/v1/products/{product}/team", tag = "products", security(("token" = ["teams.users:list"])),
    responses((status = 200, description = "People and programs, as `team`.", body = Object)))]
pub(super) async fn list(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    let product = call.place.product()?.id;
    let people = context.registry().team(product).await?;
    let programs = context.registry().api_users(product).await?;
    let people = people.iter().map(|(user, role)| {
        let role = json!({ "id": role.word(), "name": role.word() });
        json!({ "_id": user.id.0.to_string(), "username": user.email, "role": role })
    });
    let team: Vec<Json> = people.chain(programs.iter().map(program)).collect();
    Ok(ok(&json!({ "ok": true, "team": team })))
}

/// `POST /v1/products/{product}/team`
#[utoipa::path(post, path = "/v1/products/{product}/team", tag = "products", request_body = MemberFields,
    security(("token" = ["teams.users:invite"])),
    responses((status = 200, description = "`invited`, or `created` with the token of the program.", body = Object)))]
pub(super) async fn add(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    call.account()?;
    let product = call.place.product()?.id;
    let fields: MemberFields = call.body.read()?;
    if let Some(list) = fields.scopes {
        let name = fields.friendly_name.unwrap_or_default();
        let created = context.registry_of(&call).create_api_user(product, &name, scopes(&context, &list)?).await?;
        return Ok(ok(&json!({ "ok": true, "created": issued(&created) })));
    }
    let username = fields.username.ok_or_else(|| ApiError::bad_request("username is missing, or scopes"))?;
    let user = context.registry_of(&call).put_member(product, &username, role(fields.role.as_deref())?).await?;
    Ok(ok(&json!({ "ok": true, "invited": { "username": user.email } })))
}

/// `PUT /v1/products/{product}/team/{username}`: other scopes come with another token.
#[utoipa::path(put, path = "/v1/products/{product}/team/{username}", tag = "products", request_body = MemberFields,
    security(("token" = ["teams.users:update"])),
    responses((status = 200, description = "`updated`, with the new token of a program.", body = Object)))]
pub(super) async fn update(
    State(context): State<Context>,
    Path(OfMember { username }): Path<OfMember>,
    call: Call,
) -> Result<Response, ApiError> {
    call.account()?;
    let product = call.place.product()?.id;
    let fields: MemberFields = call.body.read()?;
    if let Some(list) = fields.scopes {
        let changed = context.registry_of(&call).set_api_user_scopes(product, &username, scopes(&context, &list)?).await?;
        return Ok(ok(&json!({ "ok": true, "updated": issued(&changed) })));
    }
    let user = context.registry_of(&call).put_member(product, &username, role(fields.role.as_deref())?).await?;
    Ok(ok(&json!({ "ok": true, "updated": { "username": user.email } })))
}

/// `DELETE /v1/products/{product}/team/{username}`: the token of a program ends with it.
#[utoipa::path(delete, path = "/v1/products/{product}/team/{username}", tag = "products", security(("token" = ["teams.users:remove"])),
    responses((status = 200, description = "It is in the team no more.", body = Object)))]
pub(super) async fn remove(
    State(context): State<Context>,
    Path(OfMember { username }): Path<OfMember>,
    call: Call,
) -> Result<Response, ApiError> {
    call.account()?;
    let product = call.place.product()?.id;
    let (registry, people) = (context.registry_of(&call), context.registry().team(product).await?);
    match people.iter().find(|(user, _)| user.email.eq_ignore_ascii_case(&username)) {
        Some((user, _)) => registry.remove_member(product, user.id).await?,
        None if context.registry().api_users(product).await?.iter().any(|user| user.username == username) => {
            registry.remove_api_user(product, &username).await?;
        }
        None => return Err(ApiError::api(StatusCode::NOT_FOUND, "Team member not found.")),
    }
    Ok(ok(&json!({ "ok": true })))
}
