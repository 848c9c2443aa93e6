//! The grammar of CEL, in which filters of access logs are written.
//!
//! In: an expression. Out: where it cannot be read any further. Absent on purpose: names and types, which the proxy that
//! evaluates it knows.

/// Deeper than any filter.
const DEPTH_MAX: usize = 64;
/// Longer operators first.
const OPERATORS: [&str; 26] = [
    "<=", ">=", "==", "!=", "&&", "||", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")", "[", "]",
    "{", "}", "=", "&",
];
const BINARY: [&str; 14] = ["||", "&&", "<", "<=", ">", ">=", "==", "!=", "in", "+", "-", "*", "/", "%"];

/// A word of the language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Name(&'a str),
    Literal,
    Operator(&'a str),
}

/// Whether it is an expression.
pub(super) fn parse(text: &str) -> Result<(), String> {
    let tokens = tokens(text)?;
    let mut reader = Reader { tokens: &tokens, at: 0 };
    reader.expression(DEPTH_MAX)?;
    match reader.peek() {
        None => Ok(()),
        Some(_) => Err(reader.unexpected("the end")),
    }
}

fn tokens(text: &str) -> Result<Vec<Token<'_>>, String> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (token, length) = token(rest).ok_or_else(|| {
            let bad: String = rest.chars().take(12).collect();
            format!("there is no word at {bad:?}")
        })?;
        found.push(token);
        rest = rest.get(length..).unwrap_or_default().trim_start();
        while let Some(comment) = rest.strip_prefix("//") {
            rest = comment.split_once('\n').map_or("", |(_, rest)| rest).trim_start();
        }
    }
    Ok(found)
}

fn token(rest: &str) -> Option<(Token<'_>, usize)> {
    if let Some(length) = quoted(rest) {
        return Some((Token::Literal, length));
    }
    let first = rest.chars().next()?;
    if first.is_ascii_digit() {
        let end = |c: char| !c.is_ascii_alphanumeric() && c != '.';
        return Some((Token::Literal, rest.find(end).unwrap_or(rest.len())));
    }
    if first.is_ascii_alphabetic() || first == '_' {
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let name = rest.get(..length)?;
        let token = match name {
            "true" | "false" | "null" => Token::Literal,
            "in" => Token::Operator("in"),
            name => Token::Name(name),
        };
        return Some((token, length));
    }
    let operator = OPERATORS.iter().find(|operator| rest.starts_with(**operator))?;
    Some((Token::Operator(operator), operator.len()))
}

/// The length of a text in quotes at the front: with one or three of them, raw, as bytes.
fn quoted(rest: &str) -> Option<usize> {
    let prefix = rest.find(['"', '\''])?;
    let marks = rest.get(..prefix)?;
    if marks.len() > 2 || !marks.chars().all(|c| "rRbB".contains(c)) {
        return None;
    }
    let raw = marks.contains(['r', 'R']);
    let body = rest.get(prefix..)?;
    let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| body.starts_with(quote))?;
    let mut skip = false;
    for (at, c) in body.char_indices().skip_while(|(at, _)| *at < quote.len()) {
        if skip {
            skip = false;
        } else if c == '\\' && !raw {
            skip = true;
        } else if body.get(at..).is_some_and(|rest| rest.starts_with(quote)) {
            return Some(prefix + at + quote.len());
        } else if c == '\n' && quote.len() == 1 {
            return None;
        }
    }
    None
}

struct Reader<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).copied()
    }

    fn take(&mut self, operator: &str) -> bool {
        let found = self.peek() == Some(Token::Operator(operator));
        self.at += usize::from(found);
        found
    }

    fn need(&mut self, operator: &str) -> Result<(), String> {
        if self.take(operator) { Ok(()) } else { Err(self.unexpected(&format!("{operator:?}"))) }
    }

    fn unexpected(&self, wanted: &str) -> String {
        match self.peek() {
            None => format!("it ends where {wanted} should be"),
            Some(Token::Literal) => format!("a value stands where {wanted} should be"),
            Some(Token::Name(word) | Token::Operator(word)) => format!("{word:?} stands where {wanted} should be"),
        }
    }

    /// Operators all in one: which binds tighter does not matter here.
    fn expression(&mut self, left: usize) -> Result<(), String> {
        let Some(left) = left.checked_sub(1) else { return Err("it is nested too deeply".to_owned()) };
        loop {
            self.unary(left)?;
            let binary = matches!(self.peek(), Some(Token::Operator(word)) if BINARY.contains(&word));
            if !binary {
                break;
            }
            self.at += 1;
        }
        if self.take("?") {
            self.expression(left)?;
            self.need(":")?;
            self.expression(left)?;
        }
        Ok(())
    }

    fn unary(&mut self, left: usize) -> Result<(), String> {
        while self.take("!") || self.take("-") {}
        self.primary(left)?;
        loop {
            if self.take(".") {
                self.name()?;
            } else if self.take("[") {
                self.expression(left)?;
                self.need("]")?;
            } else if self.take("(") {
                self.list(")", left, Self::expression)?;
            } else if self.take("{") {
                self.list("}", left, Self::entry)?;
            } else {
                return Ok(());
            }
        }
    }

    fn primary(&mut self, left: usize) -> Result<(), String> {
        if self.take("(") {
            self.expression(left)?;
            return self.need(")");
        }
        if self.take("[") {
            return self.list("]", left, Self::expression);
        }
        if self.take("{") {
            return self.list("}", left, Self::entry);
        }
        self.take(".");
        if self.peek() == Some(Token::Literal) {
            self.at += 1;
            return Ok(());
        }
        self.name()
    }

    fn name(&mut self) -> Result<(), String> {
        match self.peek() {
            Some(Token::Name(_)) => {
                self.at += 1;
                Ok(())
            }
            _ => Err(self.unexpected("a name or a value")),
        }
    }

    fn entry(&mut self, left: usize) -> Result<(), String> {
        self.expression(left)?;
        self.need(":")?;
        self.expression(left)
    }

    /// Entries with commas between them, up to `end`; a comma may follow the last.
    fn list(
        &mut self,
        end: &str,
        left: usize,
        mut one: impl FnMut(&mut Self, usize) -> Result<(), String>,
    ) -> Result<(), String> {
        while !self.take(end) {
            one(self, left)?;
            if !self.take(",") {
                return self.need(end);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_an_expression() {
        for text in [
            "response.code >= 400",
            "response.code >= 400 && connection.mtls == true || !has(request.headers['x-a'])",
            "request.url_path.startsWith(\"/a\\\"b\") ? 1u : -2.5e3",
            "x in [1, 2, 3,]",
            "{'a': 1, 'b': {'c': r'\\'}}['a'] == 1",
            "request.headers.exists(h, h == '''a\nb''') // why",
            "google.protobuf.Duration{seconds: 5}",
            "metadata.filter_metadata['istio_authn']",
            "-1 < 0x1F",
            "!(!true)",
        ] {
            assert_eq!(parse(text), Ok(()), "{text}");
        }
        for (text, reason) in [
            ("", "it ends where a name or a value should be"),
            ("response.code >=", "it ends where a name or a value should be"),
            ("a b", "\"b\" stands where the end should be"),
            ("a == 'b", "there is no word at \"'b\""),
            ("a = b", "\"=\" stands where the end should be"),
            ("(a", "it ends where \")\" should be"),
            ("[1 2]", "a value stands where \"]\" should be"),
            ("a ? b", "it ends where \":\" should be"),
            ("a.1", "a value stands where a name or a value should be"),
            ("a # b", "there is no word at \"# b\""),
        ] {
            assert_eq!(parse(text), Err(reason.to_owned()), "{text}");
        }
        assert_eq!(parse(&"(".repeat(10_000)), Err("it is nested too deeply".to_owned()));
    }
}
