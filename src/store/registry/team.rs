//! The people who look after a product besides its owner.

use std::collections::HashMap;

use firmware_protocol::id::{OwnerId, ProductId};
use firmware_protocol::time::UnixMillis;
use futures_util::TryStreamExt;

use super::audit::Act;
use super::products::product_id;
use super::users::{User, owner_id, to_i64, to_u64};
use super::{Registry, RegistryError};
use crate::dates;
use crate::store::{Member, Product, Realm, Role};

/// People in one team.
const TEAM_MAX: usize = 200;
/// Teams that one account may be in.
const TEAMS_PER_USER_MAX: i64 = 1_000;

impl Registry {
    /// The people who look after a product, its owner first, then in order of their accounts.
    ///
    /// # Errors
    /// There is no such product, or the database failed.
    pub async fn team(&self, product: ProductId) -> Result<Vec<(User, Role)>, RegistryError> {
        let product = self.known_product(product)?;
        let mut team = Vec::with_capacity(product.members.len() + 1);
        for (user, role) in
            [(product.owner, Role::Owner)].into_iter().chain(product.members.iter().map(|member| (member.user, member.role)))
        {
            team.extend(self.user(user).await?.map(|user| (user, role)));
        }
        Ok(team)
    }

    /// Lets an account look after a product, or changes what it may do there.
    ///
    /// # Errors
    /// There is no such product or account, the account is its owner, the team is too large, or the database failed.
    pub async fn put_member(&self, product: ProductId, email: &str, role: Role) -> Result<User, RegistryError> {
        let user = self.user_by_email(email).await?.ok_or_else(|| RegistryError::NoSuchUser(email.chars().take(254).collect()))?;
        self.change(move |registry| async move {
            let mut product = Product::clone(&*registry.known_product(product)?);
            if user.id == product.owner || role == Role::Owner {
                return Err(RegistryError::Refused("a product has one owner"));
            }
            let now = dates::now();
            let place = product.members.binary_search_by_key(&user.id, |member| member.user);
            match place {
                Ok(at) => product.members[at].role = role,
                Err(_) if product.members.len() >= TEAM_MAX => return Err(RegistryError::TooMany("people in this team")),
                Err(at) => product.members.insert(at, Member { user: user.id, role, since: now }),
            }
            let mut transaction = registry.begin().await?;
            let select = "SELECT COUNT(*) FROM team_members WHERE user_id = $1";
            let teams: i64 = sqlx::query_scalar(select).bind(to_i64(user.id.0)).fetch_one(&mut *transaction).await?;
            if place.is_err() && teams >= TEAMS_PER_USER_MAX {
                return Err(RegistryError::TooMany("teams that this account is in"));
            }
            let statement = "INSERT INTO team_members (product, user_id, role, created_at) VALUES ($1, $2, $3, $4) \
                             ON CONFLICT (product, user_id) DO UPDATE SET role = excluded.role";
            sqlx::query(statement)
                .bind(i64::from(product.id.0))
                .bind(to_i64(user.id.0))
                .bind(role.word())
                .bind(to_i64(now.0))
                .execute(&mut *transaction)
                .await?;
            let act = Act::new("team.put", Realm::Product(product.id)).with(format!("user:{} as {}", user.id.0, role.word()));
            registry.write_down(&mut transaction, act).await?;
            transaction.commit().await?;
            registry.remember_product(product);
            Ok(user)
        })
        .await
    }

    /// Takes an account out of a product's team.
    ///
    /// # Errors
    /// There is no such product, the account is not in its team, or the database failed.
    pub async fn remove_member(&self, product: ProductId, user: OwnerId) -> Result<(), RegistryError> {
        self.change(move |registry| async move {
            let mut product = Product::clone(&*registry.known_product(product)?);
            let at = product.members.binary_search_by_key(&user, |member| member.user);
            product.members.remove(at.map_err(|_| RegistryError::NoSuch("member of this team"))?);
            let mut transaction = registry.begin().await?;
            sqlx::query("DELETE FROM team_members WHERE product = $1 AND user_id = $2")
                .bind(i64::from(product.id.0))
                .bind(to_i64(user.0))
                .execute(&mut *transaction)
                .await?;
            let act = Act::new("team.remove", Realm::Product(product.id)).with(format!("user:{}", user.0));
            registry.write_down(&mut transaction, act).await?;
            transaction.commit().await?;
            registry.remember_product(product);
            Ok(())
        })
        .await
    }

    pub(super) async fn load_members(&self) -> Result<HashMap<ProductId, Vec<Member>>, RegistryError> {
        let select = "SELECT product, user_id, role, created_at FROM team_members ORDER BY user_id";
        let mut rows = sqlx::query_as::<_, (i64, i64, String, i64)>(select).fetch(self.pool());
        let mut members: HashMap<_, Vec<Member>> = HashMap::new();
        while let Some((product, user, role, since)) = rows.try_next().await? {
            let role = role.parse().map_err(|()| RegistryError::Damaged("the role of a member of a team"))?;
            let member = Member { user: owner_id(user)?, role, since: UnixMillis(to_u64(since)?) };
            members.entry(product_id(product)?).or_default().push(member);
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests;
