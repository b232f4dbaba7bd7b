//! A fence agent, checked as far as it can be before the agent itself is asked.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::Spanned;

use super::super::{
    FenceAgent, SecretRef,
    error::{ConfigError, SECRET_WORDS},
    raw::{RawDevice, RawValue, Text},
    source::{Source, shown},
};

/// Where Debian puts them.
const FOLDER: &str = "/usr/sbin";
/// Those that name where a secret lies, or a program that prints it, rather than the secret.
const HARMLESS_ENDS: [&str; 3] = ["_script", "_file", "_path"];

impl Source<'_> {
    pub(super) fn fence_agent(&self, raw: &RawDevice) -> Result<FenceAgent, ConfigError> {
        // SAFE-6: all options may stand on one line.
        self.any_fence_agent(raw).map_err(ConfigError::without_excerpt_of_secret)
    }

    fn any_fence_agent(&self, raw: &RawDevice) -> Result<FenceAgent, ConfigError> {
        let program = self.program(self.needed(raw, "agent", &raw.agent)?)?;
        let mut options = BTreeMap::new();
        for (name, value) in raw.options.iter().flat_map(Spanned::get_ref) {
            self.option_name(name, program.as_path())?;
            let hides = SECRET_WORDS.iter().any(|part| name.get_ref().contains(part));
            if hides && !HARMLESS_ENDS.iter().any(|end| name.get_ref().ends_with(end)) {
                // SAFE-6
                let what = format!("`{}` is a secret, and this file is not", shown(name.get_ref()));
                let help =
                    format!("write it under `secrets`: {} = {{ file = \"/path\" }}", shown(name.get_ref()));
                return Err(self.error(name.span(), what, help));
            }
            let value = match value {
                RawValue::Text(text) => text.clone(),
                RawValue::Number(number) => number.to_string(),
                RawValue::Flag(flag) => flag.to_string(),
            };
            if value.chars().any(char::is_control) {
                let what = format!("the value of `{}` holds a control character", shown(name.get_ref()));
                return Err(self.error(name.span(), what, "agents read one setting a line"));
            }
            options.insert(name.get_ref().clone(), value);
        }
        let mut secrets: BTreeMap<String, SecretRef> = BTreeMap::new();
        for (name, reference) in raw.secrets.iter().flat_map(Spanned::get_ref) {
            self.option_name(name, program.as_path())?;
            if options.contains_key(name.get_ref()) {
                let what = format!("`{}` stands under `options` and under `secrets`", shown(name.get_ref()));
                return Err(self.error(name.span(), what, "leave one of them out"));
            }
            secrets.insert(name.get_ref().clone(), self.secret(reference)?);
        }
        Ok(FenceAgent { program, options, secrets })
    }

    fn program(&self, text: &Text) -> Result<PathBuf, ConfigError> {
        if text.get_ref().starts_with('/') {
            return self.absolute(text);
        }
        Ok(PathBuf::from(FOLDER).join(self.label(text, "fence agent")?))
    }

    fn option_name(&self, name: &Text, program: &std::path::Path) -> Result<(), ConfigError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        let written = name.get_ref();
        if written == "action" || written == "option" {
            let what = "what an agent does is not set here";
            return Err(self.error(name.span(), what, "leave it out: it is told `off`, `on` or `status`"));
        }
        if written.is_empty() || !written.bytes().all(plain) {
            let what = format!("`{}` cannot be a setting of a fence agent", shown(written));
            return Err(self.error(name.span(), what, format!("see `{} -o metadata`", program.display())));
        }
        Ok(())
    }
}
