//! All products, in memory: read with every request that names one. Whoever asks for a caller says who the caller is, and finds only what that reaches.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use firmware_protocol::id::{OwnerId, ProductId};

use super::{Holder, Product, ProductKey, Realm, Role};

/// The products, by number, by slug and by the people who look after them.
#[derive(Default)]
pub struct ProductBook {
    pages: RwLock<Pages>,
}

#[derive(Default)]
struct Pages {
    rows: HashMap<ProductId, Arc<Product>>,
    slugs: HashMap<Box<str>, ProductId>,
    people: HashMap<OwnerId, BTreeSet<ProductId>>,
}

impl ProductBook {
    /// The product, if the holder of this token has something to do with it, and what its role is there.
    pub fn find_for(&self, holder: &Holder, key: &ProductKey) -> Option<(Arc<Product>, Role)> {
        let product = self.read().by_key(key).cloned()?;
        let role = product.role_for(holder)?;
        Some((product, role))
    }

    /// The products that the holder of this token has something to do with, in order of their numbers: an account's own ones and those of teams that it
    /// is in, or the one product.
    pub fn list_for(&self, holder: &Holder) -> Vec<Arc<Product>> {
        let pages = self.read();
        match holder.realm() {
            Realm::User(user) => pages.people.get(&user).into_iter().flatten().filter_map(|id| pages.rows.get(id)).cloned().collect(),
            Realm::Product(product) => pages.rows.get(&product).cloned().into_iter().collect(),
        }
    }

    /// How many products are this account's own.
    pub fn owned_by(&self, user: OwnerId) -> usize {
        let pages = self.read();
        pages.people.get(&user).into_iter().flatten().filter(|id| pages.rows.get(id).is_some_and(|row| row.owner == user)).count()
    }

    /// The product of this number, for the server itself: no caller has a right to it by the number alone.
    pub fn find(&self, id: ProductId) -> Option<Arc<Product>> {
        self.read().rows.get(&id).cloned()
    }

    /// How many products there are.
    pub fn len(&self) -> usize {
        self.read().rows.len()
    }

    /// Whether there is no product at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether no product has this slug.
    pub(super) fn is_free(&self, slug: &str) -> bool {
        !self.read().slugs.contains_key(slug)
    }

    /// Puts a product in, and gives back the row that said of it what no longer holds.
    pub(super) fn put(&self, product: Arc<Product>) -> Option<Arc<Product>> {
        let mut pages = self.write();
        let before = pages.take_out(product.id);
        pages.slugs.insert(product.slug.as_str().into(), product.id);
        for user in people(&product) {
            pages.people.entry(user).or_default().insert(product.id);
        }
        pages.rows.insert(product.id, product);
        before
    }

    pub(super) fn remove(&self, id: ProductId) {
        self.write().take_out(id);
    }

    fn read(&self) -> RwLockReadGuard<'_, Pages> {
        self.pages.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Pages> {
        self.pages.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn by_key(&self, key: &ProductKey) -> Option<&Arc<Product>> {
        match key {
            ProductKey::Number(id) => self.rows.get(id),
            ProductKey::Slug(slug) => self.rows.get(self.slugs.get(slug.as_str())?),
        }
    }

    fn take_out(&mut self, id: ProductId) -> Option<Arc<Product>> {
        let product = self.rows.remove(&id)?;
        self.slugs.remove(product.slug.as_str());
        for user in people(&product) {
            if let Some(products) = self.people.get_mut(&user) {
                products.remove(&id);
                if products.is_empty() {
                    self.people.remove(&user);
                }
            }
        }
        Some(product)
    }
}

fn people(product: &Product) -> impl Iterator<Item = OwnerId> {
    [product.owner].into_iter().chain(product.members.iter().map(|member| member.user))
}

#[cfg(test)]
mod tests {
    use firmware_protocol::time::UnixMillis;

    use super::*;
    use crate::store::{ApiUserId, Member};

    fn product(id: u32, slug: &str, owner: u64, members: &[u64]) -> Arc<Product> {
        let member = |user: &u64| Member { user: OwnerId(*user), role: Role::Developer, since: UnixMillis(0) };
        Arc::new(Product {
            id: ProductId(id),
            slug: slug.to_owned(),
            name: slug.to_owned(),
            description: None,
            platform_id: 13,
            owner: OwnerId(owner),
            settings: Default::default(),
            device_protection: Default::default(),
            created_at: UnixMillis(0),
            updated_at: UnixMillis(0),
            members: members.iter().map(member).collect(),
            groups: Vec::new(),
        })
    }

    fn seen(book: &ProductBook, user: u64, key: &str) -> Option<(u32, Role)> {
        book.find_for(&Holder::User(OwnerId(user)), &key.into()).map(|(product, role)| (product.id.0, role))
    }

    fn listed(book: &ProductBook, user: u64) -> Vec<u32> {
        book.list_for(&Holder::User(OwnerId(user))).iter().map(|product| product.id.0).collect()
    }

    #[test]
    fn a_product_is_found_by_number_or_slug_and_only_by_its_people() {
        let book = ProductBook::default();
        book.put(product(10_001, "kelp", 1, &[2]));
        book.put(product(10_002, "crab", 2, &[]));
        for key in ["10001", "kelp", "KELP"] {
            assert_eq!(seen(&book, 1, key), Some((10_001, Role::Owner)));
            assert_eq!(seen(&book, 2, key), Some((10_001, Role::Developer)));
            assert_eq!(seen(&book, 3, key), None);
        }
        assert_eq!((seen(&book, 1, "crab"), seen(&book, 1, "10003"), seen(&book, 1, "")), (None, None, None));
        assert_eq!((listed(&book, 1), listed(&book, 2), listed(&book, 3)), (vec![10_001], vec![10_001, 10_002], vec![]));
        assert_eq!((book.owned_by(OwnerId(1)), book.owned_by(OwnerId(2)), book.owned_by(OwnerId(3))), (1, 1, 0));
    }

    #[test]
    fn whoever_has_a_token_for_one_product_finds_that_and_no_other_of_its_owner() {
        let book = ProductBook::default();
        book.put(product(10_001, "kelp", 1, &[]));
        book.put(product(10_002, "crab", 1, &[]));
        let holder = Holder::ApiUser { product: ProductId(10_001), id: ApiUserId(1) };
        assert_eq!(book.find_for(&holder, &"kelp".into()).map(|(product, _)| product.id), Some(ProductId(10_001)));
        assert_eq!(book.find_for(&holder, &"crab".into()), None);
        assert_eq!(book.list_for(&holder).len(), 1);
    }

    #[test]
    fn a_product_that_changed_hands_or_is_gone_leaves_nothing_behind() {
        let book = ProductBook::default();
        book.put(product(10_001, "kelp", 1, &[2]));
        assert!(book.put(product(10_001, "weed", 3, &[])).is_some_and(|before| before.slug == "kelp"));
        assert!(listed(&book, 1).is_empty() && listed(&book, 2).is_empty() && book.is_free("kelp"));
        assert_eq!(seen(&book, 3, "weed"), Some((10_001, Role::Owner)));
        book.remove(ProductId(10_001));
        let pages = book.read();
        assert!(pages.rows.is_empty() && pages.slugs.is_empty() && pages.people.is_empty());
    }
}
