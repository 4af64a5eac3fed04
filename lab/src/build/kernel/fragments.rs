// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Configuration fragments: lists of requests, each of which must survive `olddefconfig`.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::trouble::trouble;

/// A requested value: `y`, `m`, a number or a string as in `.config`, or `n` for "is not set".
pub type Requests = BTreeMap<String, String>;

/// Reads `CONFIG_X=value`, `# CONFIG_X is not set`, comments and empty lines.
pub fn parse(name: &str, text: &str) -> Result<Requests> {
    let mut requests = Requests::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some((symbol, value)) = request(line) {
            requests.insert(symbol.to_owned(), value.to_owned());
        } else if !line.is_empty() && (!line.starts_with('#') || line.starts_with("# CONFIG_")) {
            return trouble(
                format!(
                    "kernel/config/{name}.config line {}: `{line}` is no request",
                    number + 1
                ),
                "write CONFIG_X=value, `# CONFIG_X is not set`, or a comment",
            );
        }
    }
    Ok(requests)
}

fn request(line: &str) -> Option<(&str, &str)> {
    if let Some(rest) = line.strip_prefix("# CONFIG_") {
        return Some((rest.strip_suffix(" is not set")?, "n"));
    }
    let (symbol, value) = line.strip_prefix("CONFIG_")?.split_once('=')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (symbol.chars().all(plain) && !value.is_empty()).then_some((symbol, value))
}

/// Renders requests as kconfig reads them.
pub fn render(requests: &Requests) -> String {
    requests
        .iter()
        .map(|(symbol, value)| match value.as_str() {
            "n" => format!("# CONFIG_{symbol} is not set\n"),
            value => format!("CONFIG_{symbol}={value}\n"),
        })
        .collect()
}

/// Refuses when a request did not survive; names each with what it became.
pub fn verify(requests: &Requests, config: &str) -> Result<()> {
    let have: BTreeMap<&str, &str> = config
        .lines()
        .filter_map(|line| request(line.trim()))
        .collect();
    let lost: Vec<String> = requests
        .iter()
        .filter_map(|(symbol, wanted)| {
            // A symbol whose dependencies are not met is not in .config at all, which is as good as "not set".
            let got = have.get(symbol.as_str()).copied().unwrap_or("n");
            (got != wanted).then(|| format!("CONFIG_{symbol}={wanted} became {got}"))
        })
        .collect();
    if lost.is_empty() {
        return Ok(());
    }
    trouble(
        format!("the kernel configuration did not take: {}", lost.join(", ")),
        "look the symbol up in the tree's Kconfig files: it was renamed, or something it depends on is missing in kernel/config/*.config (for RUST: `make rustavailable`)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_and_rendered() {
        let text = "# A comment.\nCONFIG_A=y\n\nCONFIG_B=\"x y\"\n# CONFIG_C is not set\n";
        let requests = parse("x", text).unwrap();
        assert_eq!(requests["A"], "y");
        assert_eq!(requests["C"], "n");
        assert_eq!(parse("x", &render(&requests)).unwrap(), requests);
    }

    #[test]
    fn what_is_no_request_is_refused_by_line() {
        for bad in [
            "A=y",
            "CONFIG_A",
            "CONFIG_A y",
            "# CONFIG_A not set",
            "CONFIG_A=",
        ] {
            let error = parse("x", &format!("CONFIG_B=y\n{bad}\n"))
                .unwrap_err()
                .to_string();
            assert!(error.contains("line 2"), "{bad}: {error}");
        }
    }

    #[test]
    fn lost_requests_are_named() {
        let requests = parse(
            "x",
            "CONFIG_A=y\nCONFIG_B=y\n# CONFIG_C is not set\nCONFIG_D=8\n",
        )
        .unwrap();
        verify(&requests, "CONFIG_A=y\nCONFIG_B=y\nCONFIG_D=8\n").unwrap();
        let error = verify(&requests, "CONFIG_A=y\nCONFIG_C=y\nCONFIG_D=9\n")
            .unwrap_err()
            .to_string();
        for part in [
            "CONFIG_B=y became n",
            "CONFIG_C=n became y",
            "CONFIG_D=8 became 9",
        ] {
            assert!(error.contains(part), "{error}");
        }
        assert!(!error.contains("CONFIG_A="));
    }
}
