//! Numbers, as the servers of old rooms write them.

use super::{parse, prune, to_canonical, write};

fn rewritten(json: &str) -> String {
    write(&parse(json).unwrap()).unwrap()
}

#[test]
fn numbers_are_written_in_one_way() {
    // The right side is what `json.dumps(json.loads(text))` gives in Python.
    for (text, expected) in [
        ("0", "0"),
        ("-0", "0"),
        ("-12", "-12"),
        ("9007199254740993", "9007199254740993"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("0.0", "0.0"),
        ("-0.0", "-0.0"),
        ("1.0", "1.0"),
        ("1e3", "1000.0"),
        ("1E+3", "1000.0"),
        ("50.57", "50.57"),
        ("5.114698E4", "51146.98"),
        ("0.1", "0.1"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("100000000000000000000.0", "1e+20"),
        ("1e16", "1e+16"),
        ("1e15", "1000000000000000.0"),
        ("9999999999999998.0", "9999999999999998.0"),
        ("0.0001", "0.0001"),
        ("0.00001", "1e-05"),
        ("0.0000125", "1.25e-05"),
        ("-1.5e300", "-1.5e+300"),
        ("5e-324", "5e-324"),
        ("1.7976931348623157e308", "1.7976931348623157e+308"),
        ("1e-400", "0.0"),
    ] {
        assert_eq!(rewritten(&format!("{{\"a\": {text}}}")), format!("{{\"a\":{expected}}}"));
    }
    for json in ["[1.0, 2, \"-3e\\\"5\", {\"7\": -8}]", " 1E1 ", "\"12\""] {
        super::write_lax(json).unwrap();
    }
    assert_eq!(
        super::write_lax(r#"[1.0, "-3e\"5\\", {"7": -8 }]"#).unwrap(),
        r#"[1.0,"-3e\"5\\",{"7":-8}]"#
    );
    for json in
        ["[1 2]", "1 2", "[-]", "[1.]", "[.5]", "[+1]", "[1e]", "[0x1]", "[1-2]", "\"1", "[1\"a\"]"]
    {
        assert!(super::write_lax(json).is_err(), "{json}");
    }
    assert!(parse("{\"a\":1e400}").is_err());
    assert!(parse(&format!("{{\"a\":{}}}", "9".repeat(5_000))).is_err());
}

#[test]
fn keys_are_sorted_and_strings_escaped_as_in_canonical_json() {
    let json = "{ \"b\" : [1.5, null, true, {\"z\": \"\\u00e4\\u0001\\/\", \"y\": \"\\n\"}],\
                \"a\": \"\\\"\", \"a\": false }";
    let expected = r#"{"a":false,"b":[1.5,null,true,{"y":"\n","z":"ä\u0001/"}]}"#;
    assert_eq!(rewritten(json), expected);
    assert_eq!(rewritten(expected), expected);
}

#[test]
fn what_is_no_object_or_too_deep_is_refused() {
    let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    assert!(parse(&nested(127)).is_ok());
    assert!(parse(&nested(128)).is_err());
    assert!(parse(&nested(30_000)).is_err());
    for json in ["", "1", "[]", "null", "{", "{\"a\":}", "{\"a\":\"\\ud800\"}", "{\"a\":01}"] {
        assert!(parse(json).is_err(), "{json}");
    }
}

#[test]
fn pruning_keeps_what_is_left_in_the_canonical_form() {
    let mut object = parse(r#"{"a":{"x":1.5,"y":2},"b":[1.5],"c":9007199254740993}"#).unwrap();
    let mut kept = to_canonical(&object);
    assert_eq!(
        serde_json::to_string(&kept).unwrap(),
        r#"{"a":{"x":null,"y":2},"b":[null],"c":9007199254740991}"#
    );
    kept.get_mut("a").unwrap().as_object_mut().unwrap().remove("y");
    kept.remove("b");
    prune(&mut object, &kept);
    assert_eq!(write(&object).unwrap(), r#"{"a":{"x":1.5},"c":9007199254740993}"#);
}
