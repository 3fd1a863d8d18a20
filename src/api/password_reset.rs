//! A forgotten password: its holder asks for a code, which comes by mail or from the operator, and chooses another password with it.
//!
//! Nothing here tells whether there is such an account.

use std::time::Instant;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::context::Peer;
use super::counters::count;
use super::error::ApiError;
use super::json::ok;
use super::request::Input;
use super::{Context, address, oauth};
use crate::dates::Iso;
use crate::mail::Mail;
use crate::store::registry::User;
use crate::store::{Actor, SecretHash, Who};

/// Whose password is forgotten.
#[derive(Deserialize, ToSchema)]
pub(super) struct ForgottenPassword {
    /// The address of the account.
    username: String,
}

/// `POST /v1/user/password-reset`: sends a code by mail. A server that sends no mail notes the wish in its log, and its operator makes a code.
#[utoipa::path(post, path = "/v1/user/password-reset", tag = "accounts", request_body = ForgottenPassword, security(()),
    responses((status = 200, description = "A code is on its way, or the operator knows of the wish, if there is such an account.", body = Object)))]
pub(super) async fn ask(
    State(context): State<Context>,
    Extension(Peer(peer)): Extension<Peer>,
    input: Input,
) -> Result<Response, ApiError> {
    let ForgottenPassword { username } = input.body.read()?;
    let caller = address::of_caller(peer.ip(), &input.headers, &context.settings().trusted_proxies);
    oauth::admit(&context, caller)?;
    let user = context.registry().user_by_email(&username).await?;
    let message = match context.settings().mail.clone() {
        Some(mail) => {
            // Neither the answer nor how long it takes says whether there is such an account.
            user.map(|user| tokio::spawn(send(context.clone(), mail, user, Actor::at(Who::Stranger, caller))));
            "If there is such an account, a mail with a code is on its way."
        }
        None => {
            if let Some(user) = user {
                tracing::warn!(user = user.id.0, "somebody has forgotten a password: holdfast user reset-password makes a code");
            }
            "Ask the operator of this server for a code; it sends no mail."
        }
    };
    Ok(ok(&json!({ "ok": true, "message": message })))
}

async fn send(context: Context, mail: Mail, user: User, by: Actor) {
    let counters = context.counters();
    match try_send(&context, &mail, &user, by).await {
        Ok(()) => count(&counters.mails_sent),
        Err(error) => {
            count(&counters.mails_failed);
            tracing::warn!(user = user.id.0, error, "a code for a forgotten password was not sent");
        }
    }
}

/// What went wrong is said without what the server was told.
async fn try_send(context: &Context, mail: &Mail, user: &User, by: Actor) -> Result<(), String> {
    let made = context.registry().by(by).create_password_reset(user.id).await;
    let (code, ends) = made.map_err(|error| error.to_string())?;
    let text = letter(&context.settings().public_url, code.reveal(), Iso(ends));
    mail.send(&user.email, "Your code for another password", text).await.map_err(|error| error.to_string())
}

fn letter(server: &str, code: &str, ends: Iso) -> String {
    format!(
        "Somebody, you perhaps, asked for another password for your account at {server}.\n\n\
         This code lets you choose one, once, until {ends}:\n\n    {code}\n\n\
         For example so, with a password of eight characters or more:\n\n    \
         curl -X PUT {server}/v1/user/password-reset -d token={code} --data-urlencode 'password=…'\n\n\
         If it was not you, there is nothing to do: without the code nothing changes.\n"
    )
}

/// A code, and the password that the account shall have.
#[derive(Deserialize, ToSchema)]
pub(super) struct PasswordReset {
    /// The code.
    token: String,
    /// Eight characters or more.
    password: String,
}

/// `PUT /v1/user/password-reset`: all tokens of the account end.
#[utoipa::path(put, path = "/v1/user/password-reset", tag = "accounts", request_body = PasswordReset, security(()),
    responses((status = 200, description = "The account has the password.", body = Object)))]
pub(super) async fn reset(
    State(context): State<Context>,
    Extension(Peer(peer)): Extension<Peer>,
    input: Input,
) -> Result<Response, ApiError> {
    let PasswordReset { token, password } = input.body.read()?;
    let caller = address::of_caller(peer.ip(), &input.headers, &context.settings().trusted_proxies);
    oauth::admit(&context, caller)?;
    let registry = context.registry().by(Actor::at(Who::Stranger, caller));
    let done = match SecretHash::of(&token) {
        Some(hash) => registry.reset_password(hash, &password).await?,
        None => None,
    };
    if done.is_none() {
        context.throttle().failed(Instant::now(), caller);
        return Err(ApiError::list(StatusCode::BAD_REQUEST, "This code is not good, or no longer".into()));
    }
    Ok(ok(&json!({ "ok": true, "message": "The password is changed." })))
}
