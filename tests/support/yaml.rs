//! Puts what every test's proxy needs into the few lines of YAML that a test gives.

/// Adds `section: {key: value}` to `text` unless that section names the key already. Sections are
/// top-level keys in flow style on one line, which is all that this reads of YAML.
pub fn fill_in(text: &str, defaults: &[(&str, &str, &str)]) -> String {
    let mut lines = text.lines().map(str::to_owned).collect::<Vec<_>>();
    for (section, key, value) in defaults {
        let start = format!("{section}:");
        let Some(line) = lines.iter_mut().find(|line| line.starts_with(&start)) else {
            lines.push(format!("{section}: {{{key}: \"{value}\"}}"));
            continue;
        };
        let body = line[start.len()..].trim().to_owned();
        let inner = body.strip_prefix('{').and_then(|body| body.strip_suffix('}'));
        let inner = inner.unwrap_or_else(|| panic!("write it on one line, as {section}: {{…}}: {line}"));
        let names =
            |name: &str| inner.split(['{', ',']).any(|item| item.trim().starts_with(&format!("{name}:")));
        // A Unix socket stands instead of an address.
        let replaced = *section == "listen" && names("unix");
        if !replaced && !names(key) {
            *line = format!("{section}: {{{key}: \"{value}\", {inner}}}");
        }
    }
    lines.join("\n")
}
