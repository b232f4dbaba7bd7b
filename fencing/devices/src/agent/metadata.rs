//! What an agent says of itself: the parameters that it knows, and what it can do (FenceAgentAPI, "metadata").

use std::collections::BTreeSet;

/// The parts that matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Metadata {
    parameters: BTreeSet<String>,
    actions: BTreeSet<String>,
}

impl Metadata {
    /// Reads the XML; the words tell what is wrong with it.
    pub(super) fn parse(xml: &str) -> Result<Self, String> {
        let document = roxmltree::Document::parse(xml).map_err(|error| error.to_string())?;
        let root = document.root_element();
        if !root.has_tag_name("resource-agent") {
            return Err(format!("<{}> instead of <resource-agent>", root.tag_name().name()));
        }
        let named = |tag: &str| {
            let found = root.descendants().filter(|node| node.has_tag_name(tag));
            found.filter_map(|node| node.attribute("name")).map(str::to_owned).collect()
        };
        Ok(Self { parameters: named("parameter"), actions: named("action") })
    }

    /// Agents pass over a name that they do not know, and would act on what the settings do not say.
    pub(super) fn unknown<'n>(&self, mut names: impl Iterator<Item = &'n String>) -> Option<&'n String> {
        names.find(|name| !self.parameters.contains(*name))
    }

    /// Which of the acts that a fence needs it lacks.
    pub(super) fn lacks(&self) -> Option<&'static str> {
        ["off", "on", "status"].into_iter().find(|action| !self.actions.contains(*action))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMMY: &str = "<?xml version=\"1.0\" ?>\n<resource-agent name=\"fence_x\"><parameters>\
        <parameter name=\"plug\"><content type=\"string\"/></parameter></parameters>\
        <actions><action name=\"on\"/><action name=\"off\"/><action name=\"status\"/></actions></resource-agent>";

    #[test]
    fn it_says_what_it_knows_and_can_do() {
        let metadata = Metadata::parse(DUMMY).unwrap();
        let (known, unknown) = ("plug".to_owned(), "plgu".to_owned());
        assert_eq!(metadata.unknown([&known].into_iter()), None);
        assert_eq!(metadata.unknown([&known, &unknown].into_iter()), Some(&unknown));
        assert_eq!(metadata.lacks(), None);
        let kdump = DUMMY.replace("<action name=\"on\"/>", "");
        assert_eq!(Metadata::parse(&kdump).unwrap().lacks(), Some("on"));
    }

    #[test]
    fn anything_else_is_an_error() {
        for text in ["", "usage: fence_x", "<html/>", "<resource-agent", "<a>&b;</a>"] {
            assert!(Metadata::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_nested_or_refers_without_end_is_read_or_refused() {
        // Nothing of the stack is spent on what an agent nests, as long as its output may be.
        let deep = format!("<resource-agent>{}</resource-agent>", "<a>".repeat(80_000));
        assert!(Metadata::parse(&deep).is_err());
        let (open, close) = ("<a>".repeat(35_000), "</a>".repeat(35_000));
        let deep = format!("<resource-agent>{open}<action name=\"off\"/>{close}</resource-agent>");
        assert_eq!(Metadata::parse(&deep).map(|metadata| metadata.lacks()), Ok(Some("on")));
        let mut bomb = "<!DOCTYPE r [<!ENTITY e0 \"lol\">".to_owned();
        for level in 1..20 {
            let inner = format!("&e{};", level - 1).repeat(10);
            bomb += &format!("<!ENTITY e{level} \"{inner}\">");
        }
        bomb += "]><resource-agent>&e19;</resource-agent>";
        assert!(Metadata::parse(&bomb).is_err());
    }
}
