//! Hooks of products: whose events they are for, what templates know of the device, and who hears of their answers.

use firmware_protocol::device::App;
use firmware_protocol::id::ProductId;
use firmware_protocol::session::subscribe::HandlerKind;
use holdfast::store::PublicKey;
use holdfast::store::registry::NewDevice;
use serde_json::{Value as Json, json};

use super::bench::only;
use super::ear::Ear;
use super::receiver::{PATIENCE, Reply};
use super::variables::each_variable;
use super::world::World;
use crate::device_driver::{Driver, id, key};
use crate::drive::Drive;

const VERSION: u16 = 7;

struct Plant {
    world: World,
    product: ProductId,
    /// Claimed by the account; runs the product's firmware.
    claimed: Driver,
    /// Nobody's.
    unclaimed: Driver,
    /// The account's, in no product.
    outside: Driver,
}

/// The product's firmware, which listens for what hooks answer this device.
fn firmware(n: u8, product: ProductId) -> App {
    let app = App::default().of_product(u16::try_from(product.0).unwrap(), VERSION);
    app.subscription(&format!("{}/hook-response/", id(n)), HandlerKind::Text)
}

impl Plant {
    async fn start() -> Self {
        let world = World::start().await;
        let fields = json!({ "product": { "name": "Kelp Farm", "description": "buoys", "platform_id": 32 } });
        let made = world.ask("POST", "/v1/user/products", &fields).await.json();
        let product = ProductId(u32::try_from(made["product"]["id"].as_u64().unwrap()).unwrap());
        for (n, owner, product) in [(1, Some(world.owner), Some(product)), (2, None, Some(product)), (3, Some(world.owner), None)] {
            let key = PublicKey::from_spki(key(n).public().spki()).unwrap();
            world.register(NewDevice { id: id(n), key, owner, product, platform_id: Some(32), name: None }).await;
        }
        let (claimed, unclaimed) = (world.connected(1, firmware(1, product)), world.connected(2, firmware(2, product)));
        let outside = world.connected(3, App::default());
        Self { world, product, claimed, unclaimed, outside }
    }

    fn scope(&self) -> String {
        format!("/v1/products/{}", self.product.0)
    }

    async fn listen(&self) -> Ear {
        Ear::open(self.world.server.http(), &format!("{}/events", self.scope()), &self.world.token).await
    }

    fn publish(&mut self) {
        for device in [&mut self.claimed, &mut self.unclaimed, &mut self.outside] {
            let publish = device.publish("tide", b"21.5");
            device.run_until(PATIENCE, |device| device.published(publish));
        }
    }
}

/// The devices that have published what came to a path, in order of their ids.
fn devices(world: &World, path: &str) -> Vec<String> {
    let mut devices: Vec<_> =
        world.receiver.all(path).iter().map(|received| received.form()["coreid"].as_str().unwrap().to_owned()).collect();
    devices.sort();
    devices
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_of_a_product_is_for_its_devices_and_one_of_an_account_for_the_accounts() {
    let mut plant = Plant::start().await;
    let url = |path: &str| plant.world.receiver.url(path);
    plant.world.hook_in(&plant.scope(), json!({ "url": url("/product") })).await;
    plant.world.hook_in(&plant.scope(), json!({ "url": url("/one"), "deviceID": id(2).to_string() })).await;
    plant.world.hook(json!({ "url": url("/account") })).await;
    plant.publish();
    // What nobody has claimed is the account's to which the product belongs.
    for (path, expected) in [("/product", &[1, 2][..]), ("/one", &[2]), ("/account", &[1, 2, 3])] {
        plant.world.receiver.until(path, expected.len()).await;
        assert_eq!(devices(&plant.world, path), expected.iter().map(|n| id(*n).to_string()).collect::<Vec<_>>(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_know_product_version_and_user() {
    let mut plant = Plant::start().await;
    plant.world.hook_in(&plant.scope(), only("json", each_variable())).await;
    let (product, owner) = (plant.product.0.to_string(), plant.world.owner.0.to_string());
    plant.publish();
    plant.world.receiver.until("/in", 2).await;
    for (n, user) in [(1, owner.as_str()), (2, "")] {
        let all = plant.world.receiver.all("/in");
        let told: Json = all
            .iter()
            .map(|received| received.told()["body"].clone())
            .find(|told| told["PARTICLE_DEVICE_ID"] == id(n).to_string())
            .unwrap();
        for (name, expected) in [("PRODUCT_ID", product.as_str()), ("PRODUCT_VERSION", "7"), ("PRODUCT_USER_ID", user)] {
            assert_eq!(told[name], expected, "{name} of {n}");
        }
        let whole: Json = serde_json::from_str(told["PARTICLE_EVENT_JSON"].as_str().unwrap()).unwrap();
        assert_eq!((&whole["productID"], &whole["version"]), (&json!(plant.product.0), &json!(VERSION)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_reach_the_device_that_asked_and_the_streams_of_product_and_owner() {
    let mut plant = Plant::start().await;
    plant.world.receiver.answers("/in", [Reply::ok("answer")]);
    plant.world.hook_in(&plant.scope(), json!({})).await;
    let (of_product, of_account) = (plant.listen().await, plant.world.listen().await);
    plant.publish();
    for (n, device) in [(1, &mut plant.claimed), (2, &mut plant.unclaimed)] {
        device.run_until(PATIENCE, |device| !device.heard().is_empty());
        assert_eq!(device.heard(), [(format!("{}/hook-response/tide/0", id(n)), b"answer".to_vec())]);
    }
    let names = |ear: &Ear| ear.of_cloud().into_iter().map(|heard| heard.name).collect::<Vec<_>>();
    let response = |n| format!("{}/hook-response/tide/0", id(n));
    of_product.until(|ear| [1, 2].iter().all(|n| names(ear).contains(&response(*n)))).await;
    of_account.until(|ear| names(ear).contains(&response(1))).await;
    for heard in of_product.of_cloud().iter().filter(|heard| heard.name.contains("response")) {
        assert_eq!((heard.data(), &heard.said["productID"]), (Some("answer"), &json!(plant.product.0)), "{heard:?}");
    }
}
