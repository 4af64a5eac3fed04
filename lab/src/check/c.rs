// SPDX-License-Identifier: Apache-2.0 OR MIT
//! As much of C as counting needs. Files in kernel style are read, which checkpatch.pl sees to.

/// The text without its comments. Lines stay where they are.
pub(super) fn strip(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let line = rest.find('\n').unwrap_or(rest.len());
        let (length, is_comment) = if let Some(comment) = rest.strip_prefix("/*") {
            let end = comment.find("*/");
            (end.map_or(rest.len(), |end| end + 4), true)
        } else if rest.starts_with("//") {
            (line, true)
        } else if matches!(first, '"' | '\'') {
            (literal(&rest[..line], first), false)
        } else {
            (first.len_utf8(), false)
        };
        let (piece, after) = rest.split_at(length);
        match is_comment {
            true => kept.extend([" "].into_iter().chain(piece.matches('\n'))),
            false => kept.push_str(piece),
        }
        rest = after;
    }
    kept
}

/// The length of the literal that a line begins with.
fn literal(line: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, sign) in line.char_indices().skip(1) {
        if sign == quote && !escaped {
            return at + 1;
        }
        escaped = sign == '\\' && !escaped;
    }
    line.len()
}

/// Does a line of stripped text hold code? A piece of a file may begin inside a comment, whose lines begin with a star.
pub(super) fn is_code(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && line != "*" && !line.starts_with("* ") && !line.starts_with("*/")
}

/// Lines of code: those that hold more than blanks and comments.
pub(super) fn lines(text: &str) -> usize {
    strip(text).lines().filter(|line| is_code(line)).count()
}

/// A function with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    /// Lines of code between the braces.
    pub(super) lines: usize,
}

/// The functions of a file: in kernel style the braces of a body stand alone in the first column.
pub(super) fn functions(text: &str) -> Vec<Function> {
    let mut found = Vec::new();
    let mut body = None;
    let mut head = String::new();
    for line in strip(text).lines().map(str::trim_end) {
        match (line, &mut body) {
            ("{", _) => body = Some(0),
            ("}", Some(lines)) => {
                let name = head.split('(').next().unwrap_or_default();
                let name = name.rsplit([' ', '*', '\t']).next().unwrap_or_default();
                found.push(Function {
                    name: name.to_owned(),
                    lines: *lines,
                });
                body = None;
            }
            (_, Some(lines)) => *lines += usize::from(is_code(line)),
            (_, None) if line.contains('(') && line.starts_with(|c: char| c.is_alphabetic()) => {
                line.clone_into(&mut head);
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_go_and_lines_stay() {
        let text = "a /* b\n c */ d // e\n\"/* f */\\\"\" '\"' /**/ g\n";
        assert_eq!(strip(text), "a  \n d  \n\"/* f */\\\"\" '\"'   g\n");
        assert_eq!(strip("a /* open\n"), "a  \n");
        assert_eq!(
            lines("/*\n * a\n */\nint x;\n\n\t/* b */\n\tint y; /* c */\n"),
            2
        );
        assert_eq!(lines(" * the end of a comment\n */\n*p = 1;\n"), 1);
    }

    #[test]
    fn functions_are_measured() {
        let text = "static int *a(int x,\n\t       int y)\n{\n\treturn 0;\n}\n\nstruct s {\n\tint x;\n};\n\n\
            bool b(void)\n{\n\tx();\n\n\t/* why */\n\treturn 1;\n}\n";
        let found = functions(text);
        let figures: Vec<(&str, usize)> =
            found.iter().map(|f| (f.name.as_str(), f.lines)).collect();
        assert_eq!(figures, [("a", 1), ("b", 2)]);
    }
}
