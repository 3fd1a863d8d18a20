use proptest::prelude::*;
use serde_json::json;

use super::*;

fn render(template: &str, view: &Json) -> String {
    Template::parse(template).unwrap().render(view).unwrap()
}

fn check(view: &Json, table: &[(&str, &str)]) {
    for (template, shown) in table {
        assert_eq!(render(template, view), *shown, "{template}");
    }
}

#[test]
fn values_are_shown_as_javascript_shows_them() {
    for (value, shown) in [
        (json!(null), ""),
        (json!(true), "true"),
        (json!(false), "false"),
        (json!(""), ""),
        (json!("é\u{1F600}"), "é\u{1F600}"),
        (json!(0), "0"),
        (json!(-0.0), "0"),
        (json!(1.0), "1"),
        (json!(-21.5), "-21.5"),
        (json!(1e20), "100000000000000000000"),
        (json!(1e21), "1e+21"),
        (json!(1.25e25), "1.25e+25"),
        (json!(123_456.789), "123456.789"),
        (json!(0.000_001), "0.000001"),
        (json!(0.000_000_1), "1e-7"),
        (json!(-1.5e-9), "-1.5e-9"),
        (json!(5e-324), "5e-324"),
        (json!(1.797_693_134_862_315_7e308), "1.7976931348623157e+308"),
        (json!(u64::MAX), "18446744073709551615"),
        (json!(i64::MIN), "-9223372036854775808"),
        (json!([]), ""),
        (json!([1, null, "a", [2.0, true]]), "1,,a,2,true"),
        (json!({ "a": [1, "x"] }), r#"{"a":[1,"x"]}"#),
        (json!([{ "a": 1 }, 2]), r#"{"a":1},2"#),
    ] {
        assert_eq!(render("{{{x}}}", &json!({ "x": value })), shown, "{value}");
    }
}

#[test]
fn two_braces_escape_what_particle_says() {
    let view = json!({ "x": "<a href='/?b=`1`'>\"&\"</a>", "o": { "a": 1 } });
    check(
        &view,
        &[
            ("{{x}}", "&lt;a href=&#39;/?b=`1`&#39;&gt;&quot;&amp;&quot;&lt;/a&gt;"),
            ("{{{x}}}", "<a href='/?b=`1`'>\"&\"</a>"),
            ("{{&x}}{{& x }}", "<a href='/?b=`1`'>\"&\"</a><a href='/?b=`1`'>\"&\"</a>"),
            ("{{o}}", "{&quot;a&quot;:1}"),
            ("{{ x\n}}{{missing}}{{}}", "&lt;a href=&#39;/?b=`1`&#39;&gt;&quot;&amp;&quot;&lt;/a&gt;"),
        ],
    );
}

#[test]
fn what_particle_documents_holds() {
    let view = json!({
        "a": { "aa": "testing", "ab": 1234 },
        "b": "xxx",
        "c": [{ "ca": "first", "cb": 123 }, { "ca": "second", "cb": 456 }],
    });
    check(
        &view,
        &[
            ("{{{a.aa}}}", "testing"),
            ("{{{a.ab}}}", "1234"),
            ("{{{c.0.ca}}}", "first"),
            ("{{{c.1.cb}}}", "456"),
            ("{{#b}}{{{b}}}{{/b}}{{^b}}Missing{{/b}}", "xxx"),
            ("{{#z}}{{{z}}}{{/z}}{{^z}}Missing{{/z}}", "Missing"),
            ("{{#c}}{{{ca}}}~{{/c}}", "first~second~"),
        ],
    );
}

#[test]
fn names_are_looked_up_from_the_innermost_value_outwards() {
    let view = json!({
        "name": "top", "none": null, "list": [1, "two", [3]], "o": { "name": "in", "p": { "q": 0 } }, "text": "añb", ".x": "dotted", "": "empty",
        "nested": [{ "name": "n", "list": ["a", "b"] }, null, 5],
    });
    check(
        &view,
        &[
            ("{{#o}}{{name}}{{text}}{{p.q}}{{o.name}}{{/o}}", "inañb0in"),
            ("{{#list}}[{{.}}]{{/list}}", "[1][two][3]"),
            ("{{#list}}{{name}}{{#.}}{{.}}{{/.}};{{/list}}", "top1;toptwo;top3;"),
            ("{{#nested}}{{name}}{{#list}}{{.}}{{/list}} {{/nested}}", "nab top1two3 top1two3 "),
            ("{{list.1}}{{list.2.0}}{{list.3}}{{list.01}}{{list.-1}}", "two3"),
            ("{{list.length}} {{text.length}} {{text.1}} {{#text}}{{length}}{{/text}}{{#list}}{{length}}{{/list}}", "3 3 ñ 1"),
            ("{{#o.p}}{{q}}{{/o.p}}{{^o.p.q}}zero{{/o.p.q}}", "0zero"),
            ("{{.x}}{{}}{{o.}}{{o..p}}", "dottedempty"),
            ("{{#o}}{{none}}{{p.none}}{{/o}}", ""),
        ],
    );
    assert_eq!(render("{{.}}{{#.}}{{.}}{{/.}}", &json!("x")), "xx");
    assert_eq!(render("{{0.a}}{{1}}", &json!([{ "a": 7 }, "b"])), "7b");
}

#[test]
fn sections_follow_what_javascript_takes_for_true() {
    for (value, is_there) in [
        (json!(null), false),
        (json!(false), false),
        (json!(0), false),
        (json!(0.0), false),
        (json!(""), false),
        (json!("0"), true),
        (json!(true), true),
        (json!(-1), true),
        (json!({}), true),
        (json!([0]), true),
    ] {
        assert_eq!(render("{{#x}}y{{/x}}{{^x}}n{{/x}}", &json!({ "x": value })), if is_there { "y" } else { "n" }, "{value}");
    }
    assert_eq!(render("{{#x}}y{{/x}}{{^x}}n{{/x}}", &json!({ "x": [] })), "n");
}

#[test]
fn nothing_is_left_of_lines_that_only_hold_tags_which_are_not_seen() {
    check(
        &json!({ "a": true, "x": 1 }),
        &[
            ("1\n  {{#a}}\t\n2\n{{/a}}\n3", "1\n2\n3"),
            ("1\r\n{{#a}}\r\n2\r\n{{/a}}", "1\r\n2\r\n"),
            ("1\n {{! a comment\n of two lines }} \n2", "1\n2"),
            ("1\n {{>partial}}\n2", "1\n2"),
            ("1\n{{=<% %>=}}\n2<%x%>{{x}}", "1\n21{{x}}"),
            ("{{#a}} {{/a}}\n2", "2"),
            (" {{#a}}x{{/a}} \n", " x \n"),
            (" {{#a}} {{x}}{{/a}} \n", "  1 \n"),
            ("1\n{{/a}}".replace("{{/a}}", "{{!}}").as_str(), "1\n"),
            ("\u{feff}{{!}}\n2", "2"),
            ("\u{85}{{!}}\n2", "\u{85}\n2"),
        ],
    );
}

#[test]
fn delimiters_can_be_set() {
    check(
        &json!({ "x": "<", "a": [1] }),
        &[
            ("{{=| |=}}|x|{{x}}|={{ }}=|{{x}}", "&lt;{{x}}&lt;"),
            ("{{= <%  %> more = what }}<% x %><%{x}%><%& x%><%#a%><%.%><%/a%>", "&lt;<<1"),
            ("{{x}}{{=[ ]=}}[x]", "&lt;&lt;"),
        ],
    );
}

#[test]
fn what_is_no_template_is_refused_in_words() {
    use TemplateError::*;
    let section = |name: &str, at| SectionWithoutEnd { name: name.to_owned(), at };
    for (template, error) in [
        ("a{{x", TagWithoutEnd(1)),
        ("{{{x}}", TagWithoutEnd(0)),
        ("{{=<% %>}}", TagWithoutEnd(0)),
        ("{{=<%=}}", BadDelimiters(0)),
        ("{{==}}", BadDelimiters(0)),
        ("{{#a}}", section("a", 6)),
        ("{{#a}}{{/b}}", section("a", 6)),
        ("{{#a}}{{#b}}{{/a}}", section("b", 12)),
        ("é{{/a}}", SectionWithoutBegin { name: "a".into(), at: 2 }),
    ] {
        assert_eq!(Template::parse(template), Err(error), "{template}");
    }
}

#[test]
fn everything_has_its_bound() {
    assert_eq!(Template::parse(&"x".repeat(TEMPLATE_LEN_MAX + 1)), Err(TemplateError::TooLong));
    assert!(Template::parse(&"x".repeat(TEMPLATE_LEN_MAX)).is_ok());
    assert_eq!(Template::parse(&"{{x}}".repeat(TAGS_MAX + 1)), Err(TemplateError::TooManyTags));
    assert!(Template::parse(&"{{x}}".repeat(TAGS_MAX)).is_ok());
    let deep = |depth| format!("{}{}", "{{#a}}".repeat(depth), "{{/a}}".repeat(depth));
    assert_eq!(Template::parse(&deep(DEPTH_MAX + 1)), Err(TemplateError::TooDeep));
    assert!(Template::parse(&deep(DEPTH_MAX)).is_ok());

    let hundred: Vec<_> = (0..100).collect();
    let multiply =
        |inner: &str| Template::parse(&format!("{{{{#l}}}}{{{{#l}}}}{{{{#l}}}}{{{{#l}}}}{inner}{}", "{{/l}}".repeat(4))).unwrap();
    let view = json!({ "l": hundred, "chain": [[[[[[[[]]]]]]]] });
    assert_eq!(multiply("{{x}}").render(&view), Err(RenderError::TooManySteps));
    assert_eq!(multiply("{{chain}}").render(&view), Err(RenderError::TooManySteps));
    let two = Template::parse("{{#l}}{{#l}}0123456789012345678901234567890123456789{{/l}}{{/l}}").unwrap();
    assert_eq!(two.render(&view).map(|text| text.len()), Ok(400_000));
    assert_eq!(two.render_within(&view, &mut Budget { bytes: 399_999, ..Budget::default() }), Err(RenderError::TooLong));
    let mut shared = Budget { bytes: 600_000, ..Budget::default() };
    assert!(two.render_within(&view, &mut shared).is_ok());
    assert_eq!((shared.bytes, two.render_within(&view, &mut shared)), (200_000, Err(RenderError::TooLong)));
}

#[test]
fn what_is_fixed_can_be_told() {
    let template = |text: &str| Template::parse(text).unwrap();
    assert_eq!((template("a b").fixed(), template("").fixed(), template("a{{x}}").fixed()), (Some("a b"), Some(""), None));
    assert_eq!((template("a{{x}}b").start(), template("{{x}}b").start()), ("a", ""));
}

/// Texts that are nearly templates.
fn nearly_template() -> impl Strategy<Value = String> {
    let pieces = [
        "{{",
        "}}",
        "{{{",
        "}}}",
        "#",
        "^",
        "/",
        "&",
        "!",
        ">",
        "=",
        "a",
        "b",
        ".",
        "0",
        " ",
        "\n",
        "{{#a}}",
        "{{/a}}",
        "{{=| |=}}",
        "|",
        "é",
        "{{.}}",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..40).prop_map(|pieces| pieces.concat())
}

fn view() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        "[a<&é]{0,3}".prop_map(Json::from)
    ];
    leaf.prop_recursive(4, 40, 4, |inner| {
        let name = prop::sample::select(vec!["a", "b", "0", ""]);
        let object = prop::collection::btree_map(name.prop_map(str::to_owned), inner.clone(), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Json::from),
            object.prop_map(|members| Json::Object(members.into_iter().collect()))
        ]
    })
}

proptest! {
    #[test]
    fn nothing_panics_and_bounds_hold(text in nearly_template(), view in view(), bytes in 0_usize..200, steps in 0_usize..200) {
        let Ok(template) = Template::parse(&text) else { return Ok(()) };
        let mut budget = Budget { bytes, steps };
        match template.render_within(&view, &mut budget) {
            Ok(out) => prop_assert_eq!(out.len() + budget.bytes, bytes),
            Err(error) => prop_assert!(error == RenderError::TooManySteps && steps < STEPS_MAX || error == RenderError::TooLong),
        }
    }

    #[test]
    fn text_without_braces_stands_for_itself(text in "[^{]{0,200}") {
        prop_assert_eq!(render(&text, &Json::Null), text);
    }

    #[test]
    fn numbers_mean_what_they_meant(value in any::<f64>()) {
        prop_assume!(value.is_finite());
        prop_assert_eq!(render("{{x}}", &json!({ "x": value })).parse::<f64>().unwrap(), value);
    }
}
