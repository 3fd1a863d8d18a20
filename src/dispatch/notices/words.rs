//! What a notice says: as JSON for programs, and as a letter for people.

use std::fmt::Write;
use std::time::Duration;

use firmware_protocol::time::UnixMillis;
use router::event::Audience;
use serde_json::json;
use webhooks::dispatcher::health::{DISABLE_AFTER, DISABLE_NOTICE};
use webhooks::dispatcher::messages::{DisableWhy, Notice};
use webhooks::dispatcher::schedule::{KEPT, later};

use super::super::book::Listed;
use super::{Cloud, Subject};
use crate::dates::Iso;

/// Where it is written what all of it means.
const DOCS: &str = "docs/webhooks.md";
/// Longest name in a title, in bytes.
const NAME_LEN_MAX: usize = 80;

/// What one notice says.
pub(super) struct Words<'a> {
    notice: Notice,
    subject: &'a Subject,
    cloud: &'a Cloud,
    now: UnixMillis,
}

impl<'a> Words<'a> {
    pub(super) fn new(notice: Notice, subject: &'a Subject, cloud: &'a Cloud, now: UnixMillis) -> Self {
        Self { notice, subject, cloud, now }
    }

    /// The name of the message: the same in every try.
    pub(super) fn id(&self) -> String {
        format!("notice_{}_{}_{}", self.subject.listed.hook.id, self.now.0, self.kind())
    }

    fn kind(&self) -> &'static str {
        match self.notice {
            Notice::Failing => "failing",
            Notice::Refused(_) => "refused",
            Notice::DisableSoon => "disable_soon",
            Notice::Disabled(_) => "disabled",
            Notice::Recovered => "recovered",
        }
    }

    /// For programs.
    pub(super) fn json(&self) -> String {
        let Subject { listed: Listed { hook, name, .. }, standing, oldest_pending } = self.subject;
        let time = |at: UnixMillis| Iso(at).to_string();
        let error = standing.last_failure.as_ref().map(|failure| {
            json!({ "at": time(UnixMillis(failure.at_ms)), "status": failure.status, "phase": failure.phase, "message": failure.error })
        });
        let text = json!({
            "type": format!("webhook.{}", self.kind()),
            "timestamp": time(self.now),
            "hook": { "id": hook.id.to_string(), "name": &**name, "event": hook.prefix },
            "state": standing.health.name(),
            "since": time(standing.since()),
            "failingSince": standing.failing_since_ms.map(|at| time(UnixMillis(at))),
            "error": error,
            "oldestPending": oldest_pending.map(time),
            "disabledAt": self.disabled_at().map(time),
            "deliveries": self.deliveries(),
            "text": self.first_line(),
            "docs": DOCS,
        });
        text.to_string()
    }

    /// What a letter is called.
    pub(super) fn title(&self) -> String {
        let name = &*self.subject.listed.name;
        let name = &name[..name.floor_char_boundary(NAME_LEN_MAX)];
        match self.notice {
            Notice::Failing => format!("Webhook \"{name}\" is failing"),
            Notice::Refused(status) => format!("Webhook \"{name}\" is refused with status {status}"),
            Notice::DisableSoon => format!("Webhook \"{name}\" will be disabled"),
            Notice::Disabled(_) => format!("Webhook \"{name}\" is disabled"),
            Notice::Recovered => format!("Webhook \"{name}\" is well again"),
        }
    }

    /// For people.
    pub(super) fn letter(&self) -> String {
        let mut text = self.first_line();
        text.push_str("\n\n");
        if self.notice != Notice::Recovered {
            self.say_error(&mut text);
        }
        text.push_str(&self.what_next());
        let (deliveries, docs) = (self.deliveries(), DOCS);
        let _ = write!(
            text,
            "\n\nTo see its deliveries and what came of each attempt:\n\n    \
             curl {deliveries} -H 'Authorization: Bearer TOKEN'\n\n\
             {docs} says what the states mean, and how deliveries are made again.\n"
        );
        text
    }

    fn first_line(&self) -> String {
        let Subject { listed: Listed { hook, name, .. }, standing, .. } = self.subject;
        let (id, prefix, server) = (hook.id, &hook.prefix, &self.cloud.url);
        let who = format!("The webhook \"{name}\" ({id}) at {server}, for events that begin with \"{prefix}\",");
        let since = standing.failing_since_ms.map_or_else(|| standing.since(), UnixMillis);
        match self.notice {
            Notice::Failing => format!("{who} is failing: no request has succeeded since {}.", Iso(since)),
            Notice::Refused(status) => {
                format!(
                    "{who} is refused: its receiver answers with status {status}, which says that the address or the credentials are wrong."
                )
            }
            Notice::DisableSoon => format!("{who} has been failing since {} and will be disabled.", Iso(since)),
            Notice::Disabled(DisableWhy::Gone) => {
                format!("{who} is disabled: its receiver answered with status 410, which says that it is gone for good.")
            }
            Notice::Disabled(DisableWhy::LongFailing) => {
                format!("{who} is disabled: no request has succeeded since {}.", Iso(since))
            }
            Notice::Recovered => format!("{who} is well again: requests succeed."),
        }
    }

    fn say_error(&self, text: &mut String) {
        let Some(failure) = &self.subject.standing.last_failure else { return };
        let at = Iso(UnixMillis(failure.at_ms));
        let phase = failure.phase.as_ref().map(|phase| format!("{phase}: ")).unwrap_or_default();
        let _ = write!(text, "The last error, at {at}: {phase}{}", failure.error);
        text.push_str("\n\n");
    }

    fn what_next(&self) -> String {
        let hours = KEPT.min(self.cloud.waits).as_secs() / 3_600;
        let waits = format!("Its events wait and are tried again, each for up to {hours} hours.");
        let oldest = self.subject.oldest_pending.map(|at| format!(" The oldest waits since {}.", Iso(at))).unwrap_or_default();
        let end = self.disabled_at().map(|at| format!(" If nothing succeeds until then, the hook will be disabled at {}.", Iso(at)));
        match self.notice {
            Notice::Failing | Notice::Refused(_) | Notice::DisableSoon => format!("{waits}{oldest}{}", end.unwrap_or_default()),
            Notice::Disabled(_) => format!(
                "Nothing is sent for it, and no event is for it, until it is enabled again: replace it with \"disabled\" set to false. What waits goes out then, \
                 if it is not older than {hours} hours; what was given up can be replayed."
            ),
            Notice::Recovered => format!("What waited is being sent.{oldest}"),
        }
    }

    /// When the hook will be disabled, if nothing changes.
    fn disabled_at(&self) -> Option<UnixMillis> {
        let since = UnixMillis(self.subject.standing.failing_since_ms?);
        let warned = |notice| if notice == Notice::DisableSoon { DISABLE_NOTICE } else { Duration::ZERO };
        match self.notice {
            Notice::Disabled(_) | Notice::Recovered => None,
            notice => Some(later(since, DISABLE_AFTER).max(later(self.now, warned(notice)))),
        }
    }

    fn deliveries(&self) -> String {
        let (server, id) = (&self.cloud.url, self.subject.listed.hook.id);
        match self.subject.listed.hook.audience {
            Audience::Owner(_) => format!("{server}/v1/integrations/{id}/deliveries"),
            Audience::Product(product) => format!("{server}/v1/products/{}/integrations/{id}/deliveries", product.0),
        }
    }
}
