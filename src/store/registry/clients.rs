//! OAuth clients: programs that an account or a product registered, which prove themselves with a secret and then get tokens of their own.

use std::str::FromStr;

use firmware_protocol::id::OwnerId;
use firmware_protocol::time::UnixMillis;
use sqlx::{FromRow, SqliteConnection};

use super::audit::Act;
use super::products::is_name;
use super::tokens::{IssuedToken, Wanted, Which};
use super::users::{to_i64, to_u64};
use super::{Registry, RegistryError};
use crate::dates;
use crate::store::slug::slug;
use crate::store::{ClientNumber, Holder, Realm, Scopes, SecretHash, SecretText};

/// Clients of one account or product.
const CLIENTS_PER_REALM_MAX: i64 = 100;
/// Longest name. With what is added to it, it is one that a token can name.
const NAME_LEN_MAX: usize = 40;
/// Longest address that browsers are sent back to.
const URI_LEN_MAX: usize = 512;
/// Longest id that is looked up at all.
const ID_LEN_MAX: usize = 80;

/// What kind of program a client is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientKind {
    /// One that runs at its user's, such as an application on a telephone.
    Installed,
    /// One that runs on a server, and sends browsers there and back.
    Web,
}

/// An OAuth client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OAuthClient {
    /// Its number.
    pub number: ClientNumber,
    /// What it is known by: a short form of its name, and its number.
    pub id: String,
    /// Whose it is.
    pub realm: Realm,
    /// Its name.
    pub name: String,
    /// What kind of program it is.
    pub kind: ClientKind,
    /// Where browsers are sent back to.
    pub redirect_uri: Option<String>,
    /// What its tokens may be used for.
    pub scopes: Scopes,
    /// When it was registered.
    pub created_at: UnixMillis,
    /// When it was changed last.
    pub updated_at: UnixMillis,
}

/// A client to register.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewClient {
    /// Its name.
    pub name: String,
    /// What kind of program it is.
    pub kind: ClientKind,
    /// Where browsers are sent back to; a program on a server needs it.
    pub redirect_uri: Option<String>,
    /// What its tokens may be used for.
    pub scopes: Scopes,
}

/// What to change about a client.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClientEdit {
    /// Its name. Its id stays.
    pub name: Option<String>,
    /// What its tokens may be used for, from the next one on; those that it has end.
    pub scopes: Option<Scopes>,
}

/// A client that was just registered. The only time its secret is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IssuedClient {
    /// The client.
    pub client: OAuthClient,
    /// Its secret.
    pub secret: SecretText,
}

/// What an id and a secret are worth.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientCheck {
    /// Nobody registered a client of this id.
    Unknown,
    /// Somebody did, and this is not its secret.
    Wrong,
    /// It is this one.
    Right(OAuthClient),
}

#[derive(FromRow)]
struct Row {
    number: i64,
    realm: String,
    slug: String,
    name: String,
    kind: String,
    redirect_uri: Option<String>,
    scopes: String,
    secret_hash: Vec<u8>,
    created_at: i64,
    updated_at: i64,
}

/// A question for rows.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT number, realm, slug, name, kind, redirect_uri, scopes, secret_hash, created_at, updated_at FROM oauth_clients ",
            $rest
        )
    };
}

impl Registry {
    /// The clients of an account or a product, in order of registration.
    ///
    /// # Errors
    /// The database failed.
    pub async fn clients(&self, realm: Realm) -> Result<Vec<OAuthClient>, RegistryError> {
        let query = sqlx::query_as(select!("WHERE realm = $1 ORDER BY number")).bind(realm.to_string());
        let rows: Vec<Row> = self.answer(query.fetch_all(self.pool())).await?;
        rows.into_iter().map(|row| Ok(client(row)?.0)).collect()
    }

    /// Registers a client.
    ///
    /// # Errors
    /// The name or the address does not do, there are too many clients, or the database failed.
    pub async fn create_client(&self, realm: Realm, new: NewClient) -> Result<IssuedClient, RegistryError> {
        check_name(&new.name)?;
        check_uri(&new)?;
        self.change(move |registry| async move {
            let mut transaction = registry.begin().await?;
            check_room(&mut transaction, realm).await?;
            let issued = insert(&mut transaction, realm, new).await?;
            registry.write_down(&mut transaction, Act::new("client.create", realm).with(&issued.client.id)).await?;
            transaction.commit().await?;
            Ok(issued)
        })
        .await
    }

    /// Changes a client.
    ///
    /// # Errors
    /// There is no such client there, the name does not do, or the database failed.
    pub async fn edit_client(&self, realm: Realm, id: &str, edit: ClientEdit) -> Result<OAuthClient, RegistryError> {
        edit.name.as_deref().map_or(Ok(()), check_name)?;
        let id = id.to_owned();
        self.change(move |registry| async move {
            let mut transaction = registry.begin().await?;
            let mut client = find(&mut transaction, realm, &id).await?;
            let narrowed = edit.scopes.as_ref().is_some_and(|scopes| *scopes != client.scopes);
            client.name = edit.name.unwrap_or(client.name);
            client.scopes = edit.scopes.unwrap_or(client.scopes);
            client.updated_at = dates::now();
            sqlx::query("UPDATE oauth_clients SET name = $1, scopes = $2, updated_at = $3 WHERE number = $4 AND realm = $5")
                .bind(&client.name)
                .bind(client.scopes.to_string())
                .bind(to_i64(client.updated_at.0))
                .bind(to_i64(client.number.0))
                .bind(realm.to_string())
                .execute(&mut *transaction)
                .await?;
            registry.write_down(&mut transaction, Act::new("client.edit", realm).with(format!("{id} for {}", client.scopes))).await?;
            let ended = match narrowed {
                true => registry.delete_tokens(&mut transaction, Which::OfClient(client.number)).await?,
                false => Vec::new(),
            };
            transaction.commit().await?;
            registry.forget_tokens(ended)?;
            Ok(client)
        })
        .await
    }

    /// Removes a client and ends its tokens.
    ///
    /// # Errors
    /// There is no such client there, or the database failed.
    pub async fn remove_client(&self, realm: Realm, id: &str) -> Result<(), RegistryError> {
        let id = id.to_owned();
        self.change(move |registry| async move {
            let mut transaction = registry.begin().await?;
            let client = find(&mut transaction, realm, &id).await?;
            let ended = registry.delete_tokens(&mut transaction, Which::OfClient(client.number)).await?;
            let delete = sqlx::query("DELETE FROM oauth_clients WHERE number = $1 AND realm = $2").bind(to_i64(client.number.0));
            delete.bind(realm.to_string()).execute(&mut *transaction).await?;
            registry.write_down(&mut transaction, Act::new("client.remove", realm).with(&id)).await?;
            transaction.commit().await?;
            registry.forget_tokens(ended)
        })
        .await
    }

    /// What an id and a secret are worth that somebody sent.
    ///
    /// # Errors
    /// The database failed.
    pub async fn check_client(&self, id: &str, secret: &str) -> Result<ClientCheck, RegistryError> {
        let Some((slug, number)) = parts(id) else { return Ok(ClientCheck::Unknown) };
        let query = sqlx::query_as(select!("WHERE number = $1 AND slug = $2")).bind(number).bind(slug.to_owned());
        let row: Option<Row> = self.answer(query.fetch_optional(self.pool())).await?;
        let Some((client, hash)) = row.map(client).transpose()? else { return Ok(ClientCheck::Unknown) };
        let right = SecretHash::of(secret).is_some_and(|sent| sent.is(&hash));
        Ok(if right { ClientCheck::Right(client) } else { ClientCheck::Wrong })
    }

    /// Makes a token that a client holds itself, for whoever registered it, with the scopes that it has.
    ///
    /// # Errors
    /// The client is gone, the account behind it has too many tokens, or the database failed.
    pub async fn issue_client_token(&self, client: &OAuthClient, life_ms: Option<u64>) -> Result<IssuedToken, RegistryError> {
        let (realm, id) = (client.realm, client.id.clone());
        self.change(move |registry| async move {
            let mut transaction = registry.begin().await?;
            // Read again: it may have been changed since it proved itself.
            let client = find(&mut transaction, realm, &id).await?;
            let wanted = Wanted {
                user: registry.account_behind(realm)?,
                holder: Holder::Client { number: client.number, realm },
                client: id,
                scopes: client.scopes,
                life_ms,
                refreshable: false,
            };
            let issued = registry.add_token(&mut transaction, wanted).await?;
            transaction.commit().await?;
            Ok(registry.remember_token(issued))
        })
        .await
    }

    fn account_behind(&self, realm: Realm) -> Result<OwnerId, RegistryError> {
        match realm {
            Realm::User(user) => Ok(user),
            Realm::Product(product) => Ok(self.known_product(product)?.owner),
        }
    }
}

/// Removes all clients of an account or a product, whose tokens end in other ways.
pub(super) async fn remove_clients_of(connection: &mut SqliteConnection, realm: Realm) -> Result<(), RegistryError> {
    Ok(sqlx::query("DELETE FROM oauth_clients WHERE realm = $1").bind(realm.to_string()).execute(connection).await.map(drop)?)
}

async fn find(connection: &mut SqliteConnection, realm: Realm, id: &str) -> Result<OAuthClient, RegistryError> {
    let (slug, number) = parts(id).ok_or(RegistryError::NoSuch("client"))?;
    let query = sqlx::query_as(select!("WHERE number = $1 AND slug = $2 AND realm = $3")).bind(number).bind(slug.to_owned());
    let row: Option<Row> = query.bind(realm.to_string()).fetch_optional(connection).await?;
    Ok(client(row.ok_or(RegistryError::NoSuch("client"))?)?.0)
}

async fn insert(connection: &mut SqliteConnection, realm: Realm, new: NewClient) -> Result<IssuedClient, RegistryError> {
    let (secret, now, slug) = (SecretText::random()?, dates::now(), slug(&new.name, "client"));
    let statement = "INSERT INTO oauth_clients (realm, slug, name, kind, redirect_uri, scopes, secret_hash, created_at, updated_at) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) RETURNING number";
    let number: i64 = sqlx::query_scalar(statement)
        .bind(realm.to_string())
        .bind(&slug)
        .bind(&new.name)
        .bind(new.kind.word())
        .bind(&new.redirect_uri)
        .bind(new.scopes.to_string())
        .bind(secret.hash().bytes().to_vec())
        .bind(to_i64(now.0))
        .fetch_one(connection)
        .await?;
    let NewClient { name, kind, redirect_uri, scopes } = new;
    let (number, id) = (ClientNumber(to_u64(number)?), format!("{slug}-{number}"));
    Ok(IssuedClient {
        client: OAuthClient { number, id, realm, name, kind, redirect_uri, scopes, created_at: now, updated_at: now },
        secret,
    })
}

async fn check_room(connection: &mut SqliteConnection, realm: Realm) -> Result<(), RegistryError> {
    let select = "SELECT COUNT(*) FROM oauth_clients WHERE realm = $1";
    let count: i64 = sqlx::query_scalar(select).bind(realm.to_string()).fetch_one(connection).await?;
    if count >= CLIENTS_PER_REALM_MAX { Err(RegistryError::TooMany("clients")) } else { Ok(()) }
}

fn check_name(name: &str) -> Result<(), RegistryError> {
    if is_name(name, NAME_LEN_MAX) {
        return Ok(());
    }
    Err(RegistryError::Unfit("the name of a client has from 1 to 40 bytes without control characters"))
}

fn check_uri(new: &NewClient) -> Result<(), RegistryError> {
    let is_uri = |uri: &str| uri.len() <= URI_LEN_MAX && uri.contains(':') && uri.bytes().all(|byte| byte.is_ascii_graphic());
    match (&new.redirect_uri, new.kind) {
        (None, ClientKind::Web) => Err(RegistryError::Unfit("a client of type web needs a redirect_uri")),
        (Some(uri), _) if !is_uri(uri) => Err(RegistryError::Unfit("a redirect_uri is an address of at most 512 bytes")),
        _ => Ok(()),
    }
}

/// The slug and the number in an id.
fn parts(id: &str) -> Option<(&str, i64)> {
    let (slug, number) = id.rsplit_once('-').filter(|_| id.len() <= ID_LEN_MAX)?;
    // One text for each number, so that no client has two ids.
    let plain = number.bytes().all(|byte| byte.is_ascii_digit()) && !number.starts_with('0');
    Some((slug, number.parse().ok().filter(|_| plain)?))
}

fn client(row: Row) -> Result<(OAuthClient, SecretHash), RegistryError> {
    use RegistryError::Damaged;
    let hash = SecretHash::from_slice(&row.secret_hash).ok_or(Damaged("the secret of a client"))?;
    let client = OAuthClient {
        number: ClientNumber(to_u64(row.number)?),
        id: format!("{}-{}", row.slug, row.number),
        realm: row.realm.parse().map_err(|_| Damaged("whose a client is"))?,
        name: row.name,
        kind: row.kind.parse().map_err(|()| Damaged("the kind of a client"))?,
        redirect_uri: row.redirect_uri,
        scopes: Scopes::parse(&row.scopes).map_err(|_| Damaged("the scopes of a client"))?,
        created_at: UnixMillis(to_u64(row.created_at)?),
        updated_at: UnixMillis(to_u64(row.updated_at)?),
    };
    Ok((client, hash))
}

impl ClientKind {
    /// In a word, as clients write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Web => "web",
        }
    }
}

impl FromStr for ClientKind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Installed, Self::Web].into_iter().find(|kind| kind.word() == text).ok_or(())
    }
}

#[cfg(test)]
mod tests;
