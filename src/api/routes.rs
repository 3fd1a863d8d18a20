//! Every route. Literal words are matched before names.

use axum::Router;
use axum::routing::get;
use utoipa::openapi::{OpenApi, Paths};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

use super::{
    Context, access_tokens, clients, description, device_change, device_claims, devices, diagnostics, elsewhere, events, firmware,
    functions, groups, hooks, oauth, ownership, password_reset, product_devices, products, provisioning, publish, serial_numbers, team,
    transfers, users, variables,
};

/// What stands before a path within a product.
const BELOW_PRODUCT: &str = "/v1/products/{product}/";

/// The routes, and what is said of them. The paths in that are written as the router has them.
pub(super) fn all() -> (Router<Context>, OpenApi) {
    let mut all = of_accounts().merge(of_products());
    // One of a product's devices is shown and changed like any other, and removed in another way.
    all = all.routes(routes!(devices::show, device_change::update, ownership::release));
    all = all.routes(with(below_product(routes!(devices::show, device_change::update)), routes!(product_devices::remove)));
    for routes in in_both_places().into_iter().chain(hooks_by_both_names()) {
        all = all.routes(routes.clone()).routes(below_product(routes));
    }
    all = elsewhere::routes().fold(all, OpenApiRouter::routes);
    OpenApiRouter::with_openapi(description::opening()).merge(all).split_for_parts()
}

/// Both, of one path.
fn with(one: UtoipaMethodRouter<Context>, other: UtoipaMethodRouter<Context>) -> UtoipaMethodRouter<Context> {
    let ((mut schemas, mut paths, methods), (more_schemas, more_paths, more_methods)) = (one, other);
    schemas.extend(more_schemas);
    paths.merge(more_paths);
    (schemas, paths, methods.merge(more_methods))
}

/// What accounts have, and what is only theirs.
fn of_accounts() -> OpenApiRouter<Context> {
    OpenApiRouter::new()
        .routes(routes!(oauth::token))
        .routes(routes!(access_tokens::current, access_tokens::revoke_current))
        .routes(routes!(access_tokens::list, access_tokens::revoke_all))
        .routes(routes!(access_tokens::revoke))
        .routes(routes!(users::show, users::update, users::remove))
        .routes(routes!(password_reset::ask, password_reset::reset))
        .routes(routes!(users::create))
        .routes(routes!(devices::list, ownership::claim))
        .routes(routes!(provisioning::provision))
        .routes(routes!(events::all, publish::publish))
        .routes(routes!(events::all_with_prefix))
        .routes(routes!(events::prefix_required))
        .routes(routes!(events::own_with_prefix))
        .routes(routes!(products::organizations))
        .routes(routes!(serial_numbers::look_up))
        .routes(routes!(transfers::list))
        .routes(routes!(transfers::accept, transfers::end))
}

/// What there is both among one's own and within a product.
fn in_both_places() -> [UtoipaMethodRouter<Context>; 10] {
    [
        routes!(clients::list, clients::create),
        routes!(clients::update, clients::remove),
        routes!(devices::ping),
        routes!(device_claims::create),
        routes!(events::of_device),
        routes!(events::of_device_with_prefix),
        routes!(variables::read, functions::call),
        routes!(diagnostics::history),
        routes!(diagnostics::last),
        routes!(diagnostics::update),
    ]
}

/// Hooks, as integrations and as webhooks.
fn hooks_by_both_names() -> impl Iterator<Item = UtoipaMethodRouter<Context>> {
    let integrations = [
        routes!(hooks::list, hooks::create),
        routes!(hooks::show, hooks::replace, hooks::remove),
        routes!(hooks::trial::test),
        routes!(hooks::deliveries::list),
        routes!(hooks::deliveries::show),
        routes!(hooks::replays::list, hooks::replays::begin),
        routes!(hooks::replays::show, hooks::replays::cancel),
        routes!(hooks::signing::show, hooks::signing::rotate),
    ];
    integrations.into_iter().flat_map(|routes| [routes.clone(), renamed(routes, "/integrations", "/webhooks")])
}

/// What there is of products only.
fn of_products() -> OpenApiRouter<Context> {
    OpenApiRouter::new()
        .routes(routes!(products::list, products::create))
        .routes(routes!(products::of_user, products::create_of_user))
        .routes(routes!(products::show, products::update, products::remove))
        .routes(routes!(product_devices::list, product_devices::import, product_devices::batch))
        .routes(routes!(product_devices::remove_owner))
        .routes(routes!(events::of_product, publish::in_product))
        .routes(routes!(events::of_product_with_prefix))
        .routes(routes!(groups::list, groups::create))
        .routes(routes!(groups::show, groups::update, groups::remove))
        .routes(routes!(team::list, team::add))
        .routes(routes!(team::update, team::remove))
        .routes(routes!(firmware::list, firmware::create))
        .routes(routes!(firmware::release))
        .routes(routes!(firmware::show, firmware::update, firmware::remove))
        .routes(routes!(firmware::binary))
}

/// The same below a product: what is said of a route there is what is said of it here, with the product in its path.
fn below_product(routes: UtoipaMethodRouter<Context>) -> UtoipaMethodRouter<Context> {
    renamed(routes, "/v1/", BELOW_PRODUCT)
}

/// The same with a part of the path by another name.
fn renamed((schemas, paths, methods): UtoipaMethodRouter<Context>, from: &str, to: &str) -> UtoipaMethodRouter<Context> {
    let mut renamed = Paths::new();
    renamed.paths = paths.paths.into_iter().map(|(path, item)| (path.replacen(from, to, 1), item)).collect();
    (schemas, renamed, methods)
}

/// The description itself, which anybody may read.
pub(super) fn description(text: String) -> Router<Context> {
    Router::new().route("/v1/openapi.json", get(move || async move { super::json::ok_written(text.into()) }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What the router itself says that it has, whichever way it came there.
    fn paths(router: &Router<Context>) -> BTreeSet<String> {
        let text = format!("{router:?}");
        // Its own way to say that nothing was found has paths too.
        let ours = |part: &&str| part.starts_with('/') && *part != "/" && !part.contains("__private");
        text.split('"').filter(ours).map(str::to_owned).collect()
    }

    #[test]
    fn every_route_is_described() {
        let (router, described) = all();
        let paths = paths(&router.merge(description(String::new())));
        assert!(paths.len() > 20, "the router says less of itself than it did: {paths:?}");
        let known = |path: &&String| described.paths.paths.contains_key(*path) || *path == "/v1/openapi.json";
        assert_eq!(paths.iter().filter(|path| !known(path)).collect::<Vec<_>>(), Vec::<&String>::new());
    }
}
