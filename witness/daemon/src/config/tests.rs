use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::*;

/// A directory of its own for one test, removed afterwards.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("palisade-witness-config-{}-{test}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let directory = Self(path);
        directory.write("key", &format!("{}\n", "5a".repeat(32)), 0o600);
        directory
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.0.join(name), text).unwrap();
        fs::set_permissions(self.0.join(name), Permissions::from_mode(mode)).unwrap();
    }

    /// Reads a configuration; `DIR` in it stands for this directory.
    fn read(&self, text: &str) -> Result<Config, String> {
        let text = text.replace("DIR", self.0.to_str().unwrap());
        self.write("witness.toml", &text, 0o644);
        let path = self.0.join("witness.toml");
        let shown = format!("{}: ", path.display());
        Config::read(&path)
            .map_err(|error| error.to_string().replace(&shown, "").replace(self.0.to_str().unwrap(), "DIR"))
    }
}

impl std::ops::Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const GOOD: &str = r#"broker = "mqtt://127.0.0.1:1884"
username = "witness"
password = { file = "DIR/password" }
[[cluster]]
name = "edge-a"
keys = [ { id = 1, file = "DIR/key" } ]
lease = "1s"
drift = "1%"
[[cluster]]
name = "edge-b"
keys = [ { id = 1, file = "DIR/key" },
  { id = 2, file = "DIR/key" } ]
lease = "250ms"
drift = "0.5%"
hosts = 4
"#;

#[test]
fn a_good_file_is_read() {
    let directory = Directory::new("good");
    directory.write("password", "hunter2\n", 0o400);
    let (settings, clusters) = directory.read(GOOD).unwrap().into_parts();
    assert_eq!(settings.broker.to_string(), "mqtt://127.0.0.1:1884");
    let login = settings.login.unwrap();
    assert_eq!((login.username.as_str(), login.password.as_str()), ("witness", "hunter2"));
    assert!(!format!("{login:?}").contains("hunter2"));
    let [a, b] = clusters.as_slice() else { panic!("{clusters:?}") };
    assert_eq!(
        (&*a.name, a.lease, a.drift, a.hosts),
        ("edge-a", Duration::ms(1000), Drift { ppm: 10_000 }, 32)
    );
    assert_eq!((&*b.name, b.lease, b.drift, b.hosts), ("edge-b", Duration::ms(250), Drift { ppm: 5000 }, 4));
}

#[test]
fn each_mistake_has_one_message_with_its_place() {
    let directory = Directory::new("mistakes");
    directory.write("password", "hunter2\n", 0o600);
    directory.write("open", &"5a".repeat(32), 0o644);
    directory.write("short", "5a\n", 0o600);
    directory.write("letters", &"xy".repeat(32), 0o600);
    let key = "keys = [ { id = 1, file = \"DIR/key\" } ]";
    let of_key = |file: &str| (key, format!("keys = [ {{ id = 1, file = \"{file}\" }} ]"));
    let cases: Vec<((&str, String), &str)> = vec![
        (
            ("broker =", "brocker =".into()),
            "line 1, column 1: unknown field `brocker`, expected one of `broker`, `username`, `password`, `cluster`",
        ),
        (
            ("mqtt://127.0.0.1:1884", "127.0.0.1".into()),
            "line 1, column 10: \"127.0.0.1\" is not mqtt://HOST[:PORT]",
        ),
        (
            ("mqtt://", "mqtts://".into()),
            "line 1, column 10: TLS to the broker is not supported yet: write mqtt://HOST[:PORT]",
        ),
        (("username = \"witness\"\n", String::new()), "line 2, column 12: a password without a username"),
        (
            ("{ file = \"DIR/password\" }", "\"hunter2\"".into()),
            "line 3, column 12: a secret never stands in the configuration: write { file = PATH } or { credential = NAME }",
        ),
        (
            ("{ file = \"DIR/password\" }", "7".into()),
            "line 3, column 12: invalid type: integer `7`, expected { file = PATH } or { credential = NAME }",
        ),
        (("edge-a", "Edge A".into()), "line 5, column 8: a cluster's name is 1 to 32 of a-z, 0-9 and -"),
        (("edge-b", "edge-a".into()), "line 10, column 8: cluster \"edge-a\" stands already on line 5"),
        (of_key("DIR/open"), "line 6, column 10: DIR/open: others may touch it: mode is 0644, must be 0600"),
        (of_key("DIR/missing"), "line 6, column 10: DIR/missing: No such file or directory (os error 2)"),
        (
            of_key("DIR/short"),
            "line 6, column 10: DIR/short: a key is 64 hexadecimal digits, not 2 characters",
        ),
        (of_key("DIR/letters"), "line 6, column 10: DIR/letters: character 1 is no hexadecimal digit"),
        (of_key("key"), "line 6, column 10: \"key\" is no absolute path"),
        ((key, "keys = []".into()), "line 6, column 8: no key"),
        (
            (key, "keys = [ { id = 1 } ]".into()),
            "line 6, column 10: a secret has either a file or a credential",
        ),
        (
            (key, "keys = [ { id = 1, credential = \"../x\" } ]".into()),
            "line 6, column 10: \"../x\" is no credential's name",
        ),
        (("id = 2", "id = 1".into()), "line 11, column 8: key id 1 stands twice"),
        (("id = 2", "id = 256".into()), "line 12, column 10: invalid value: integer `256`, expected u8"),
        (("\"1s\"", "1000".into()), "line 7, column 9: invalid type: integer `1000`, expected a string"),
        (
            ("\"1s\"", "\"1000\"".into()),
            "line 7, column 9: \"1000\": a length of time is a whole number with its unit (ms, s, min, h), such as \"200ms\"",
        ),
        (("\"1s\"", "\"10ms\"".into()), "line 7, column 9: a lease of 10 ms is not between 50 ms and 60 s"),
        (
            ("\"1%\"", "\"1\"".into()),
            "line 8, column 9: \"1\": a drift is a percentage, such as \"1%\" or \"0.5%\"",
        ),
        (("\"1%\"", "\"21%\"".into()), "line 8, column 9: a drift of 21% is above 20%"),
        (("lease = \"1s\"\n", String::new()), "line 4, column 1: missing field `lease`"),
        (("hosts = 4", "hosts = 33".into()), "line 15, column 9: a cluster has 2 to 32 hosts"),
        (
            ("hosts = 4", "hosts = ".into()),
            "line 15, column 9: string values must be quoted, expected literal string",
        ),
    ];
    for ((from, to), expected) in cases {
        assert!(GOOD.contains(from), "{from}");
        let error = directory.read(&GOOD.replacen(from, &to, 1)).unwrap_err();
        assert_eq!(error, expected, "{from} -> {to}");
        assert!(!error.contains("hunter2"));
    }
    let nobody = directory.read("broker = \"mqtt://b\"\n").unwrap_err();
    assert_eq!(nobody, "line 1, column 1: no [[cluster]] is configured");
}

#[test]
fn a_broker_is_a_name_or_an_address_with_or_without_a_port() {
    let broker = |text: &str| BrokerText::try_from(text.to_owned()).map(|broker| broker.0.to_string()).ok();
    for (text, expected) in [
        ("mqtt://broker.example", "mqtt://broker.example:1883"),
        ("mqtt://10.0.0.9:1884/", "mqtt://10.0.0.9:1884"),
        ("mqtt://[fd00::9]", "mqtt://[fd00::9]:1883"),
        ("mqtt://[fd00::9]:1884", "mqtt://[fd00::9]:1884"),
    ] {
        assert_eq!(broker(text).as_deref(), Some(expected));
    }
    for text in [
        "mqtt://",
        "mqtt://:1",
        "mqtt://a:0",
        "mqtt://a:x",
        "mqtt://a:1:2",
        "mqtt://fd00::9",
        "mqtt://a b",
        "mqtt://[x]",
    ] {
        assert_eq!(broker(text), None, "{text}");
    }
}
