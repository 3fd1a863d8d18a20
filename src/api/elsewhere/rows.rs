//! Which services, and what is said of each. A parameter `device` is a device within reach of the caller, and any other is told that there is none; `of`
//! is one where something is read, and else a device or a key.

use super::Row;
use super::Says::{self, Cannot, NoSuch, Nothing};
use super::Verb::{self, Delete, Get, Patch, Post, Put};
use super::Wants::{self, Account, Nobody, Scope};

/// The routes by subject.
pub(super) const SUBJECTS: &[(&str, &[Row])] = &[
    ("libraries", LIBRARIES),
    ("organizations", ORGANIZATIONS),
    ("firmware", FIRMWARE),
    ("environment", ENVIRONMENT),
    ("secrets", SECRETS),
    ("configuration", CONFIGURATION),
    ("logic", LOGIC),
    ("ledgers", LEDGERS),
    ("accounts", ACCOUNTS),
    ("customers", CUSTOMERS),
    ("sims", SIMS),
    ("locations", LOCATIONS),
    ("devices", PROTECTION),
];

const NO_LIBRARIES: &str = "This server keeps no libraries";
const LIBRARIES: &[Row] = &[
    row(Get, "/v1/libraries", Account, Nothing(r#"{"data":[]}"#)),
    row(Post, "/v1/libraries", Account, Cannot(NO_LIBRARIES)),
    row(Get, "/v1/libraries/{library}", Account, NoSuch("Library not found")),
    row(Patch, "/v1/libraries/{library}", Account, NoSuch("Library not found")),
    row(Delete, "/v1/libraries/{library}", Account, NoSuch("Library not found")),
    row(Get, "/v1/libraries/{library}/versions", Account, NoSuch("Library not found")),
];

const NO_ORGANIZATION: &str = "Organization not found";
const ORGANIZATIONS: &[Row] = &[
    row(Get, "/v1/orgs/{org}", Account, NoSuch(NO_ORGANIZATION)),
    row(Get, "/v1/orgs/{org}/{*rest}", Account, NoSuch(NO_ORGANIZATION)),
    row(Post, "/v1/orgs/{org}/{*rest}", Account, NoSuch(NO_ORGANIZATION)),
    row(Put, "/v1/orgs/{org}/{*rest}", Account, NoSuch(NO_ORGANIZATION)),
    row(Patch, "/v1/orgs/{org}/{*rest}", Account, NoSuch(NO_ORGANIZATION)),
    row(Delete, "/v1/orgs/{org}/{*rest}", Account, NoSuch(NO_ORGANIZATION)),
];

const NO_COMPILER: &str = "This server has no cloud compiler";
const FIRMWARE: &[Row] = &[
    row(Get, "/v1/build_targets", Nobody, Nothing(r#"{"targets":[],"platforms":{},"default_versions":{}}"#)),
    row(Get, "/v1/device-os/versions", Nobody, Nothing(r#"{"versions":[]}"#)),
    row(Get, "/v1/device-os/versions/{version}", Nobody, NoSuch("Device OS version not found")),
    row(Post, "/v1/binaries", Account, Cannot(NO_COMPILER)),
    row(Get, "/v1/binaries/{binary}", Account, Cannot(NO_COMPILER)),
];

const NO_ENVIRONMENT: &str = "This server keeps no environment variables";
const ENVIRONMENT_READ: Says = Nothing(r#"{"last_snapshot":null,"latest":{"own":{},"inherited":{}}}"#);
const ENVIRONMENT_RENDERED: Says = Nothing(r#"{"env":{}}"#);
const ENVIRONMENT_CHANGES: Says = Nothing(r#"{"from_snapshot":{"changes":[],"unchanged":{}}}"#);
const ENVIRONMENT: &[Row] = &[
    row(Get, "/v1/env", Scope("env:get"), ENVIRONMENT_READ),
    row(Patch, "/v1/env", Scope("env:update"), Cannot(NO_ENVIRONMENT)),
    row(Get, "/v1/env/render", Scope("env:get"), ENVIRONMENT_RENDERED),
    row(Get, "/v1/env/rollout", Scope("env:get"), ENVIRONMENT_CHANGES),
    row(Post, "/v1/env/rollout", Scope("env:update"), Cannot(NO_ENVIRONMENT)),
    row(Get, "/v1/env/{of}", Scope("env:get"), ENVIRONMENT_READ),
    row(Patch, "/v1/env/{of}", Scope("env:update"), Cannot(NO_ENVIRONMENT)),
    row(Put, "/v1/env/{of}", Scope("env:update"), Cannot(NO_ENVIRONMENT)),
    row(Delete, "/v1/env/{of}", Scope("env:update"), Cannot(NO_ENVIRONMENT)),
    row(Get, "/v1/env/{of}/render", Scope("env:get"), ENVIRONMENT_RENDERED),
    row(Get, "/v1/env/{of}/rollout", Scope("env:get"), ENVIRONMENT_CHANGES),
    row(Post, "/v1/env/{of}/rollout", Scope("env:update"), Cannot(NO_ENVIRONMENT)),
    row(Put, "/v1/env/{of}/{key}", Scope("env:update"), Cannot(NO_ENVIRONMENT)),
    row(Delete, "/v1/env/{of}/{key}", Scope("env:update"), Cannot(NO_ENVIRONMENT)),
    row(Get, "/v1/products/{product}/env", Scope("env:get"), ENVIRONMENT_READ),
    row(Patch, "/v1/products/{product}/env", Scope("env:update"), Cannot(NO_ENVIRONMENT)),
    row(Get, "/v1/products/{product}/env/render", Scope("env:get"), ENVIRONMENT_RENDERED),
    row(Get, "/v1/products/{product}/env/rollout", Scope("env:get"), ENVIRONMENT_CHANGES),
    row(Post, "/v1/products/{product}/env/rollout", Scope("env:update"), Cannot(NO_ENVIRONMENT)),
    row(Put, "/v1/products/{product}/env/{key}", Scope("env:update"), Cannot(NO_ENVIRONMENT)),
    row(Delete, "/v1/products/{product}/env/{key}", Scope("env:update"), Cannot(NO_ENVIRONMENT)),
];

const NO_SECRETS: &str = "This server keeps no secrets";
const SECRETS: &[Row] = &[
    row(Get, "/v1/secrets", Scope("secrets:list"), Nothing(r#"{"secrets":[]}"#)),
    row(Post, "/v1/secrets", Scope("secrets:create"), Cannot(NO_SECRETS)),
    row(Get, "/v1/secrets/{name}", Scope("secrets:get"), NoSuch("Secret not found")),
    row(Put, "/v1/secrets/{name}", Scope("secrets:update"), Cannot(NO_SECRETS)),
    row(Delete, "/v1/secrets/{name}", Scope("secrets:remove"), NoSuch("Secret not found")),
];

const NO_CONFIGURATION: &str = "This server keeps no configuration for devices";
const CONFIGURED: Says = Nothing(r#"{"configuration":{}}"#);
const CONFIGURATION: &[Row] = &[
    row(Get, "/v1/products/{product}/config", Scope("configuration:get"), CONFIGURED),
    row(Put, "/v1/products/{product}/config", Scope("configuration:update"), Cannot(NO_CONFIGURATION)),
    row(Get, "/v1/products/{product}/config/{device}", Scope("configuration:get"), CONFIGURED),
    row(Put, "/v1/products/{product}/config/{device}", Scope("configuration:update"), Cannot(NO_CONFIGURATION)),
];

const NO_LOGIC: &str = "This server runs no functions of its own";
const NO_FUNCTION: Says = NoSuch("Logic function not found");
const LOGIC: &[Row] = &[
    row(Get, "/v1/logic/functions", Scope("logic.functions:list"), Nothing(r#"{"logic_functions":[]}"#)),
    row(Post, "/v1/logic/functions", Scope("logic.functions:create"), Cannot(NO_LOGIC)),
    row(Post, "/v1/logic/execute", Scope("logic.functions:create"), Cannot(NO_LOGIC)),
    row(Get, "/v1/logic/functions/{logic_function}", Scope("logic.functions:get"), NO_FUNCTION),
    row(Put, "/v1/logic/functions/{logic_function}", Scope("logic.functions:update"), NO_FUNCTION),
    row(Delete, "/v1/logic/functions/{logic_function}", Scope("logic.functions:remove"), NO_FUNCTION),
    row(Get, "/v1/logic/functions/{logic_function}/runs", Scope("logic.functions:get"), NO_FUNCTION),
    row(Get, "/v1/logic/functions/{logic_function}/runs/{run}", Scope("logic.functions:get"), NO_FUNCTION),
    row(Get, "/v1/logic/functions/{logic_function}/runs/{run}/logs", Scope("logic.functions:get"), NO_FUNCTION),
    row(Get, "/v1/products/{product}/logic/functions", Scope("logic.functions:list"), Nothing(r#"{"logic_functions":[]}"#)),
    row(Post, "/v1/products/{product}/logic/functions", Scope("logic.functions:create"), Cannot(NO_LOGIC)),
    row(Post, "/v1/products/{product}/logic/execute", Scope("logic.functions:create"), Cannot(NO_LOGIC)),
];

const NO_LEDGERS: &str = "This server keeps no ledgers";
const NO_LEDGER: Says = NoSuch("Ledger not found");
const EMPTY_LEDGERS: Says = Nothing(r#"{"ledgers":[],"ledger_definitions":[],"meta":{"page":1,"per_page":25,"total_pages":0,"total":0}}"#);
const LEDGERS: &[Row] = &[
    row(Get, "/v1/ledgers", Scope("ledgers:list"), EMPTY_LEDGERS),
    row(Post, "/v1/ledgers", Scope("ledgers:create"), Cannot(NO_LEDGERS)),
    row(Get, "/v1/ledgers/{ledger}", Scope("ledgers:get"), NO_LEDGER),
    row(Put, "/v1/ledgers/{ledger}", Scope("ledgers:update"), Cannot(NO_LEDGERS)),
    row(Delete, "/v1/ledgers/{ledger}", Scope("ledgers:remove"), NO_LEDGER),
    row(Get, "/v1/ledgers/{ledger}/instances", Scope("ledgers.instances:list"), NO_LEDGER),
    row(Get, "/v1/ledgers/{ledger}/instances/{instance}", Scope("ledgers.instances:get"), NO_LEDGER),
    row(Put, "/v1/ledgers/{ledger}/instances/{instance}", Scope("ledgers.instances:update"), Cannot(NO_LEDGERS)),
    row(Delete, "/v1/ledgers/{ledger}/instances/{instance}", Scope("ledgers.instances:remove"), NO_LEDGER),
    row(Get, "/v1/ledgers/{ledger}/instances/{instance}/versions", Scope("ledgers.instances:get"), NO_LEDGER),
    row(Get, "/v1/ledgers/{ledger}/instances/{instance}/versions/{version}", Scope("ledgers.instances:get"), NO_LEDGER),
    row(Get, "/v1/products/{product}/ledgers", Scope("ledgers:list"), EMPTY_LEDGERS),
];

const NO_SECOND_FACTOR: &str = "This server has no login with a second factor";
const ACCOUNTS: &[Row] = &[
    row(Get, "/v1/user/mfa-enable", Account, Cannot(NO_SECOND_FACTOR)),
    row(Post, "/v1/user/mfa-enable", Account, Cannot(NO_SECOND_FACTOR)),
    row(Put, "/v1/user/mfa-disable", Account, Cannot(NO_SECOND_FACTOR)),
    row(Get, "/v1/user/service_agreements", Scope("service_agreements:list"), Nothing(r#"{"data":[]}"#)),
];

const NO_CUSTOMERS: &str = "This server keeps no customers; devices belong to accounts";
const CUSTOMERS: &[Row] = &[
    row(
        Get,
        "/v1/products/{product}/customers",
        Scope("customers:list"),
        Nothing(r#"{"customers":[],"devices":[],"meta":{"total_pages":0}}"#),
    ),
    row(Post, "/v1/products/{product}/customers", Scope("customers:create"), Cannot(NO_CUSTOMERS)),
    row(Put, "/v1/products/{product}/customers/{customer}", Scope("customers:update"), NoSuch("Customer not found")),
    row(Delete, "/v1/products/{product}/customers/{customer}", Scope("customers:remove"), NoSuch("Customer not found")),
];

const NO_SIMS: &str = "This server has nothing to do with SIM cards";
const NO_SIM: Says = NoSuch("SIM not found");
const EMPTY_SIMS: Says = Nothing(r#"{"sims":[],"meta":{"total_pages":0}}"#);
const SIMS: &[Row] = &[
    row(Get, "/v1/sims", Scope("sims:list"), EMPTY_SIMS),
    row(Get, "/v1/sims/{sim}", Scope("sims:get"), NO_SIM),
    row(Put, "/v1/sims/{sim}", Scope("sims:update"), NO_SIM),
    row(Delete, "/v1/sims/{sim}", Scope("sims:remove"), NO_SIM),
    row(Get, "/v1/sims/{sim}/status", Scope("sims.status:get"), NO_SIM),
    row(Get, "/v1/sims/{sim}/data_usage", Scope("sims:get"), NO_SIM),
    row(Get, "/v1/products/{product}/sims", Scope("sims:list"), EMPTY_SIMS),
    row(Post, "/v1/products/{product}/sims", Scope("sims:import"), Cannot(NO_SIMS)),
    row(Get, "/v1/products/{product}/sims/{sim}", Scope("sims:get"), NO_SIM),
    row(Put, "/v1/products/{product}/sims/{sim}", Scope("sims:update"), NO_SIM),
    row(Delete, "/v1/products/{product}/sims/{sim}", Scope("sims:remove"), NO_SIM),
    row(Get, "/v1/products/{product}/sims/{sim}/status", Scope("sims.status:get"), NO_SIM),
    row(Get, "/v1/products/{product}/sims/{sim}/data_usage", Scope("sims:get"), NO_SIM),
];

const LOCATIONS: &[Row] = &[
    row(
        Get,
        "/v1/products/{product}/locations",
        Scope("locations:list"),
        Nothing(r#"{"locations":[],"meta":{"page":1,"per_page":25,"total_pages":0,"total":0,"devices_found":0}}"#),
    ),
    row(Get, "/v1/products/{product}/locations/{device}", Scope("locations:get"), NoSuch("This server keeps no places of devices")),
];

const NO_PROTECTION: &str = "This server cannot open protected devices";
const PROTECTION: &[Row] = &[
    row(Put, "/v1/devices/{device}/unprotect", Scope("devices:update"), Cannot(NO_PROTECTION)),
    row(Put, "/v1/products/{product}/devices/{device}/unprotect", Scope("devices:update"), Cannot(NO_PROTECTION)),
];

const fn row(verb: Verb, path: &'static str, wants: Wants, says: Says) -> Row {
    Row { verb, path, wants, says }
}
