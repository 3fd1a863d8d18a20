//! Templates within JSON: the fields of forms, queries and headers, and whole documents.

use serde_json::{Map, Value as Json};

use crate::template::{Budget, RenderError, Template};

/// Most members of an object or a list with templates.
pub const FIELDS_MAX: usize = 256;

/// Names and values, both of them templates, in the order in which they are sent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fields(pub Vec<(Template, Template)>);

/// A JSON document whose texts and names are templates.
#[derive(Clone, PartialEq, Debug)]
pub enum JsonTemplate {
    /// A text: it stays one, whatever stands for it.
    Text(Template),
    /// A number, truth or null, which stays as it is.
    Fixed(Json),
    /// A list.
    List(Vec<JsonTemplate>),
    /// An object.
    Object(Vec<(Template, JsonTemplate)>),
}

/// Two ways to say a JSON document.
#[derive(Clone, PartialEq, Debug)]
pub enum Shape {
    /// As a document.
    Json(JsonTemplate),
    /// As a text, which need not be JSON before it is filled in.
    Text(Template),
}

impl Fields {
    /// Fills all of them in.
    ///
    /// # Errors
    /// The budget does not suffice.
    pub fn render(&self, view: &Json, budget: &mut Budget) -> Result<Vec<(String, String)>, RenderError> {
        self.0.iter().map(|(name, value)| Ok((name.render_within(view, budget)?, value.render_within(view, budget)?))).collect()
    }
}

impl JsonTemplate {
    /// Fills all of it in. Of members that get the same name, the last one stays.
    ///
    /// # Errors
    /// The budget does not suffice.
    pub fn render(&self, view: &Json, budget: &mut Budget) -> Result<Json, RenderError> {
        Ok(match self {
            Self::Text(template) => template.render_within(view, budget)?.into(),
            Self::Fixed(value) => value.clone(),
            Self::List(list) => Json::Array(list.iter().map(|value| value.render(view, budget)).collect::<Result<_, _>>()?),
            Self::Object(members) => {
                let filled = members.iter().map(|(name, value)| Ok((name.render_within(view, budget)?, value.render(view, budget)?)));
                Json::Object(filled.collect::<Result<Map<_, _>, RenderError>>()?)
            }
        })
    }
}

impl Shape {
    /// Fills it in: as text.
    ///
    /// # Errors
    /// The budget does not suffice.
    pub fn render(&self, view: &Json, budget: &mut Budget) -> Result<String, RenderError> {
        match self {
            Self::Json(document) => Ok(document.render(view, budget)?.to_string()),
            Self::Text(template) => template.render_within(view, budget),
        }
    }
}
