//! Products: made, filled with devices, shared with a team, and closed to everybody else.

use serde_json::{Value as Json, json};

use crate::rig::{DEVICE, FOREIGN_DEVICE, PASSWORD, Rig};

async fn product(rig: &Rig) -> String {
    let fields = json!({ "product": { "name": "Kelp Farm", "description": "buoys", "platform_id": 13 } });
    let made = rig.json("POST", "/v1/user/products", &fields).await;
    assert_eq!((made.status, &made.json()["product"]["slug"]), (200, &json!("kelp-farm")), "{:?}", made.json());
    format!("/v1/products/{}", made.json()["product"]["id"])
}

/// A request with another token.
async fn with(rig: &Rig, token: &str, method: &str, path: &str, body: &Json) -> (u16, Json) {
    let head = format!("{method} {path} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json");
    let answer = rig.raw(&head, body.to_string().as_bytes()).await;
    (answer.status, if answer.status == 204 { Json::Null } else { answer.json() })
}

async fn other_token(rig: &Rig) -> String {
    let form = format!("grant_type=password&username=other@example.com&password={}", PASSWORD.replace(' ', "+"));
    rig.log_in("", &form).await.json()["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_product_is_made_listed_shown_changed_and_removed() {
    let rig = Rig::start().await;
    let path = product(&rig).await;
    for address in [path.as_str(), "/v1/products/kelp-farm"] {
        assert_eq!(rig.get(address).await.json()["product"]["name"], "Kelp Farm", "{address}");
    }
    for list in ["/v1/products", "/v1/user/products"] {
        assert_eq!(rig.get(list).await.json()["products"].as_array().unwrap().len(), 1, "{list}");
    }
    let changed = rig.json("PUT", &path, &json!({ "product": { "description": null, "settings": { "quarantine": true } } })).await.json();
    assert_eq!((&changed["product"]["description"], &changed["product"]["settings"]["quarantine"]), (&Json::Null, &json!(true)));
    for bad in [json!({}), json!({ "name": "x" }), json!({ "name": "x", "platform_id": "many" }), json!({ "platform_id": 6 })] {
        assert_eq!(rig.json("POST", "/v1/products", &bad).await.status, 400, "{bad}");
    }
    assert_eq!(rig.json("DELETE", &path, &json!({})).await.status, 204);
    assert_eq!(rig.get(&path).await.status, 404);
}

#[tokio::test]
async fn devices_are_imported_listed_changed_and_let_go() {
    let rig = Rig::start_online().await;
    let path = product(&rig).await;
    let devices = format!("{path}/devices");
    let unknown = "e00fce68aabbccddeeff0099";
    let list = format!("{DEVICE}\r\n{unknown}\n{FOREIGN_DEVICE}\nnot-an-id\n\n");
    let body = format!("--k\r\nContent-Disposition: form-data; name=\"file\"; filename=\"file\"\r\n\r\n{list}\r\n--k--\r\n");
    let head = format!("POST {devices} HTTP/1.1\r\nAuthorization: Bearer {}\r\nContent-Type: multipart/form-data; boundary=k", rig.token);
    let imported = rig.raw(&head, body.as_bytes()).await.json();
    assert_eq!(imported, json!({ "updated": 2, "nonmemberDeviceIds": [FOREIGN_DEVICE], "invalidDeviceIds": ["not-an-id"] }));

    let page = rig.get(&format!("{devices}?per_page=1&sortAttr=lastConnection")).await.json();
    assert_eq!((&page["devices"][0]["id"], &page["meta"]["total_pages"]), (&json!(DEVICE), &json!(1)));
    assert_eq!(page["devices"][0]["firmware_product_id"].to_string(), path.rsplit('/').next().unwrap());
    assert_eq!(rig.get(&format!("{devices}?deviceName=nobody")).await.json()["devices"], json!([]));

    let device = format!("{devices}/{DEVICE}");
    let changed = rig.json("PUT", &device, &json!({ "development": true, "groups": ["beta"] })).await.json();
    assert_eq!((&changed["development"], &changed["groups"]), (&json!(true), &json!(["beta"])));
    assert_eq!(rig.json("PUT", &device, &json!({ "desired_firmware_version": 7 })).await.status, 404, "there is no such firmware");
    assert_eq!(rig.form("PUT", &device, "desired_firmware_version=null").await.json()["desired_firmware_version"], Json::Null);
    assert_eq!(rig.get(&device).await.json()["groups"], json!(["beta"]));
    assert_eq!(rig.get(&format!("{devices}?groups=beta,none")).await.json()["devices"].as_array().unwrap().len(), 1);
    assert_eq!(rig.json("POST", &format!("{device}/led"), &json!({ "arg": "on" })).await.json()["return_value"], 2);
    assert_eq!(rig.get(&format!("{device}/temp")).await.json()["result"], 21.5);
    assert_eq!(rig.get(&format!("{devices}/kitchen%20light")).await.status, 403, "only ids within a product");

    assert_eq!(
        rig.json("PUT", &devices, &json!({ "action": "groups", "devices": [DEVICE], "metadata": { "remove": ["beta"] } })).await.status,
        200
    );
    assert_eq!(rig.json("DELETE", &format!("{device}/owner"), &json!({})).await.status, 200);
    assert_eq!(rig.get(&format!("/v1/devices/{DEVICE}")).await.status, 403, "it is the product's alone");
    assert_eq!(rig.json("DELETE", &device, &json!({ "deny": true })).await.status, 204);
    assert_eq!(rig.get(&device).await.json()["denied"], true);
    assert_eq!(rig.json("DELETE", &device, &json!({})).await.status, 204);
    assert_eq!(rig.get(&device).await.status, 403);
}

#[tokio::test]
async fn groups_have_names_and_devices() {
    let rig = Rig::start().await;
    let groups = format!("{}/groups", product(&rig).await);
    let made = rig.json("POST", &groups, &json!({ "name": "beta", "color": "#fff" })).await;
    assert_eq!((made.status, &made.json()["group"]["name"]), (201, &json!("beta")));
    for bad in [json!({}), json!({ "name": "Beta" }), json!({ "name": "beta" })] {
        assert!([400, 403].contains(&rig.json("POST", &groups, &bad).await.status), "{bad}");
    }
    assert_eq!(rig.json("PUT", &format!("{groups}/beta"), &json!({ "name": "gamma" })).await.json()["group"]["name"], "gamma");
    assert_eq!(rig.get(&format!("{groups}?name=gam")).await.json()["groups"].as_array().unwrap().len(), 1);
    assert_eq!(rig.get(&format!("{groups}/gamma")).await.json()["group"]["device_count"], 0);
    assert_eq!(rig.json("DELETE", &format!("{groups}/gamma"), &json!({})).await.status, 204);
    assert_eq!(rig.get(&format!("{groups}/gamma")).await.status, 404);
}

#[tokio::test]
async fn a_team_has_people_and_programs_and_each_reaches_what_it_may() {
    let rig = Rig::start().await;
    let (path, other) = (product(&rig).await, other_token(&rig).await);
    let foreign = with(&rig, &other, "GET", &path, &json!({})).await;
    assert_eq!(foreign, with(&rig, &other, "GET", "/v1/products/10999", &json!({})).await, "like one that there is not");
    assert_eq!(foreign, (404, json!({ "ok": false, "error": "Product not found." })));

    let team = format!("{path}/team");
    assert_eq!(rig.json("POST", &team, &json!({ "username": "other@example.com", "role": "viewer" })).await.status, 200);
    assert_eq!(with(&rig, &other, "GET", &path, &json!({})).await.0, 200);
    assert_eq!(with(&rig, &other, "PUT", &path, &json!({ "name": "mine" })).await.0, 403);

    let made = rig.json("POST", &team, &json!({ "friendly_name": "Dash Board", "scopes": ["devices:list"] })).await.json();
    let (name, token) = (made["created"]["username"].as_str().unwrap(), made["created"]["tokens"][0]["token"].as_str().unwrap());
    assert_eq!(with(&rig, token, "GET", &format!("{path}/devices"), &json!({})).await.0, 200);
    let refused = with(&rig, token, "GET", &format!("{path}/groups"), &json!({})).await;
    assert_eq!((refused.0, &refused.1["error"]), (403, &json!("insufficient_scope")));
    for outside in ["/v1/devices", "/v1/user"] {
        let refused = with(&rig, token, "GET", outside, &json!({})).await;
        assert_eq!((refused.0, &refused.1["error"]), (400, &json!("unauthorized")), "{outside}");
    }
    let listed = rig.get(&team).await.json();
    assert!(listed["team"].as_array().unwrap().iter().any(|member| member["is_programmatic"] == true), "{listed}");
    assert!(!listed.to_string().contains(token), "a token is shown once");
    assert_eq!(rig.json("DELETE", &format!("{team}/{name}"), &json!({})).await.status, 200);
    assert_eq!(with(&rig, token, "GET", &format!("{path}/devices"), &json!({})).await.0, 401);
}

#[tokio::test]
async fn an_event_of_a_product_is_its_own() {
    let rig = Rig::start().await;
    let path = product(&rig).await;
    let sent = rig.json("POST", &format!("{path}/events"), &json!({ "name": "news", "data": "x" })).await;
    assert_eq!(sent.status, 200, "{:?}", sent.json());
    let mut stream = rig.stream(&format!("{path}/events/ne")).await;
    assert_eq!(stream.chunk().await.as_deref(), Some(":ok\n\n"));
}

#[tokio::test]
async fn a_kind_of_hardware_is_shown_where_clients_take_it_for_a_product() {
    let mut rig = Rig::start().await;
    let expected = json!({ "product": { "id": 13, "platform_id": 13, "name": "Boron", "groups": [] } });
    assert_eq!(rig.get("/v1/products/13").await.json(), expected);
    for unknown in ["14", "0", "99999", "boron"] {
        assert_eq!(rig.get(&format!("/v1/products/{unknown}")).await.status, 404, "{unknown}");
    }
    assert_eq!(rig.bare("GET", "/v1/products/13").await.status, 400);
    rig.token = rig.token_for("devices:list").await;
    assert_eq!(rig.get("/v1/products/13").await.status, 403);
}
