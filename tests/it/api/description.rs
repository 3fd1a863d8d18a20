//! The API's description as it is served, against the one in the repository: whoever changes the API sees here what clients will see of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::Value as Json;

use crate::rig::Rig;

fn golden() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "testdata", "openapi.json"].iter().collect()
}

/// As a file: the version is left out, which changes with every release.
async fn described() -> String {
    let mut description = Rig::start().await.bare("GET", "/v1/openapi.json").await.json();
    description["info"]["version"] = Json::Null;
    serde_json::to_string_pretty(&description).expect("it was JSON before") + "\n"
}

#[tokio::test]
async fn the_description_is_the_one_in_the_repository() {
    let (described, kept) = (described().await, fs::read_to_string(golden()).expect("testdata/openapi.json"));
    let first = described.lines().zip(kept.lines()).position(|(one, other)| one != other);
    let renew = "cargo nextest run --workspace --test it write_the_description --run-ignored only";
    assert!(described == kept, "testdata/openapi.json differs in line {first:?}. If the API shall be as it is now, renew it: {renew}");
}

#[tokio::test]
#[ignore = "writes the golden file"]
async fn write_the_description() {
    fs::write(golden(), described().await).expect("testdata/openapi.json is written");
}

#[tokio::test]
async fn every_operation_has_a_name_of_its_own_a_tag_and_an_answer() {
    let description = Rig::start().await.bare("GET", "/v1/openapi.json").await.json();
    let mut names = BTreeSet::new();
    for (path, item) in description["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let name = operation["operationId"].as_str().unwrap_or_default().to_owned();
            assert!(!name.is_empty() && names.insert(name), "{method} {path}");
            assert!(
                operation["tags"][0].is_string() && operation["responses"].as_object().is_some_and(|all| all.len() > 2),
                "{method} {path}"
            );
        }
    }
}
