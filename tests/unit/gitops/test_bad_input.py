"""Everything that a push can get wrong, each with the exact place and the sentence that is said."""

from __future__ import annotations

import pytest

NAMESPACED = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
data:
  colour: green
"""

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 2
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      containers:
        - name: web
          image: web:1
"""

SERVICE = """\
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  selector:
    app: web
  ports:
    - port: 80
"""


def at(problem):
    return str(problem.place), problem.message, problem.hint


@pytest.mark.parametrize(
    ("text", "place", "message", "hint"),
    [
        ("a: b: c\n", "a.yaml:1:5", "a colon that starts a value is not allowed here", "indentation"),
        ("a:\n\t- b\n", "a.yaml:2:1", "a tab cannot indent YAML", "use spaces"),
        ("a: [1,\n", "a.yaml:1:7", "did not find expected node content", ""),
        ("a: 'x\n", "a.yaml:1:6", "found unexpected end of stream", ""),
        ("a: @x\n", "a.yaml:1:4", '"@" cannot start a value', "quote the value"),
        ("a: 1\na: 2\n", "a.yaml:2:1", 'the key "a" stands here twice', "first in line 1"),
        ("x:\n  a: 1\n  b: 2\n  a: 3\n", "a.yaml:4:3", 'the key "a" stands here twice', "first in line 2"),
        (
            "a: !python/object:os.system x\n",
            "a.yaml:1:4",
            "the tag !python/object:os.system is not known",
            "rem",
        ),
        ("a: *nowhere\n", "a.yaml:1:4", "the alias *nowhere names nothing before it", ""),
        ("a: \x07\n", "a.yaml:1:4", "the character U+0007 is not allowed in YAML", ""),
        ("- 1\n- 2\n", "a.yaml:1:1", "a manifest must be a map with apiVersion and kind", ""),
        ("# nothing\n", "a.yaml:1:1", "this file renders to no object", "gitkube:empty"),
        ("kind: ConfigMap\n", "a.yaml:1:1", "apiVersion is missing", ""),
        (
            NAMESPACED.replace("ConfigMap", "ConfigMop"),
            "a.yaml:2:7",
            "unknown kind ConfigMop of v1",
            "ConfigMap",
        ),
        (
            DEPLOYMENT.replace("apps/v1", "apps/v1beta1"),
            "a.yaml:1:13",
            "Deployment is not served at",
            "apps/v1",
        ),
        (
            NAMESPACED.replace("\ndata:", "\ndate:"),
            "a.yaml:5:1",
            "unknown field date",
            'did you mean "data"?',
        ),
        (NAMESPACED.replace("green", "5"), "a.yaml:6:11", "data.colour must be text, not 5", 'write "5"'),
        (
            NAMESPACED.replace("  name: settings", "  labels: {}"),
            "a.yaml:3:1",
            "metadata.name is missing",
            "",
        ),
        (
            DEPLOYMENT.replace("image:", "imagee:"),
            "a.yaml:15:11",
            "unknown field spec.template.spec.containers[0].imagee",
            'did you mean "image"?',
        ),
        (
            DEPLOYMENT.replace("s: 2", "s: two"),
            "a.yaml:6:13",
            'spec.replicas must be a whole number, not "two"',
            "",
        ),
        (
            DEPLOYMENT.replace("s: 2", 's: "2"'),
            "a.yaml:6:13",
            "spec.replicas must be a whole number",
            "without",
        ),
        (DEPLOYMENT.replace("s: 2", "s: 02"), "a.yaml:6:13", "02 is 2 in YAML 1.2", "write"),
        (DEPLOYMENT.replace("s: 2", "s: -2"), "a.yaml:6:13", "spec.replicas: ", ""),
        (
            DEPLOYMENT.replace(
                "          image: web:1", "          image: web:1\n          resources: {limits: {cpu: much}}"
            ),
            "a.yaml:16:37",
            'spec.template.spec.containers[0].resources.limits.cpu: "much" is no amount',
            "500m",
        ),
        (SERVICE, "a.yaml:6:3", "selector app=web matches no pod template", "no pod template in namespace"),
        (
            "apiVersion: v1\nkind: Node\nmetadata: {name: x}\n",
            "a.yaml:2:7",
            "a Node cannot come from git",
            "",
        ),
        (
            NAMESPACED.replace("  name: s", "  namespace: nowhere\n  name: s"),
            "a.yaml:4:14",
            "there is no namespace",
            "",
        ),
        (
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: x, namespace: y}\n",
            "a.yaml:3:32",
            "a Namespace",
            "rem",
        ),
    ],
)
def test_a_mistake_in_a_plain_file_is_named_at_its_place(judge, text, place, message, hint):
    problem = judge.problem({"a.yaml": text})
    assert str(problem.place) == place
    assert message in problem.message
    assert hint in problem.hint
    assert problem.is_error


def test_the_same_object_in_two_files_names_both_places(judge):
    problem = judge.problem({"a.yaml": NAMESPACED, "b/b.yaml": "# a comment\n" + NAMESPACED})
    assert at(problem) == (
        "b/b.yaml:5:9",
        "ConfigMap default/settings is defined twice",
        "first at a.yaml:1:1; remove one of them",
    )


def test_a_selector_names_the_nearest_template(judge):
    problem = judge.problem({"web.yaml": DEPLOYMENT, "svc.yaml": SERVICE.replace("app: web", "app: wep")})
    assert at(problem) == (
        "svc.yaml:6:3",
        "selector app=wep matches no pod template in this repository",
        "the nearest is app=web (web.yaml:11)",
    )


def test_a_slip_in_a_selector_is_said_beside_other_mistakes(judge):
    found = judge.errors(
        {
            "web.yaml": DEPLOYMENT.replace("image:", "imagee:"),
            "svc.yaml": SERVICE.replace("app: web", "app: wep"),
        }
    )
    assert len(found) == 2 and "imagee" in found[1] and "app=wep" in found[0]


def test_a_missing_config_map_is_a_warning_with_the_nearest(judge):
    text = DEPLOYMENT + "          envFrom:\n            - configMapRef: {name: setings}\n"
    problem = judge.problem({"web.yaml": text, "cfg.yaml": NAMESPACED})
    assert not problem.is_error
    assert at(problem) == (
        "web.yaml:17:36",
        "ConfigMap default/setings is not in this repository",
        'did you mean "settings"?',
    )


def test_a_key_that_a_config_map_lacks_is_a_warning_with_what_it_has(judge):
    reference = "{name: X, valueFrom: {configMapKeyRef: {name: settings, key: shape}}}"
    text = DEPLOYMENT + f"          env:\n            - {reference}\n"
    problem = judge.problem({"web.yaml": text, "cfg.yaml": NAMESPACED})
    assert not problem.is_error
    assert problem.message == 'ConfigMap default/settings has no key "shape"'
    assert problem.hint == "it has: colour"
    assert str(problem.place) == "web.yaml:17:76"


# ------------------------------------------------------------------ templates

VALUES = "region: eu\nreplicas: 2\nmap: {key: 1}\n"
TEMPLATE = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {}\n"


def template(expression: str) -> dict[str, str]:
    return {"values.yaml": VALUES, "a.yaml.j2": TEMPLATE.replace("{}", expression)}


@pytest.mark.parametrize(
    ("expression", "place", "message", "hint"),
    [
        ("{{ regoin }}", "a.yaml.j2:4:12", 'undefined variable "regoin"', 'did you mean "region"?'),
        (
            "{{ regoin }}",
            "a.yaml.j2:4:12",
            'undefined variable "regoin"',
            "values.yaml has: map, region, replicas",
        ),
        ("{{ map.kye }}", "a.yaml.j2:4:16", 'undefined key "kye"', "there is: key"),
        ("{{ region.x }}", "a.yaml.j2:4:19", 'a value of type str has no "x"', ""),
        ("{{ region", "a.yaml.j2:4", "template syntax", ""),
        ("{% if %}{% endif %}", "a.yaml.j2:4", "template syntax: Expected an expression", ""),
        ("{{ region | shout }}", "a.yaml.j2:4:21", "template syntax: No filter named 'shout'", ""),
        ("{% include 'nope' %}", "a.yaml.j2:4:21", 'there is no template "nope"', ""),
        ("{% include 'a.yaml.j2' %}", "a.yaml.j2:4", "the template includes or calls itself without end", ""),
        ("{{ ''.__class__.__mro__ }}", "a.yaml.j2:4", "not allowed in a template", ""),
        ("{{ 1 / 0 }}", "a.yaml.j2:4", "the template failed: division by zero", ""),
        ("{% for x in range(10**9) %}x{% endfor %}", "a.yaml.j2:4", "Range too big", ""),
        ("{{ 'x' * (10 ** 9) }}", "a.yaml.j2:4", "memory", ""),
    ],
)
def test_a_mistake_in_a_template_is_named_at_its_line(judge, expression, place, message, hint):
    problem = judge.problem(template(expression))
    assert str(problem.place) == place
    assert message in problem.message
    assert hint in problem.hint


def test_an_error_in_a_rendered_object_names_the_templates_line(judge):
    files = {
        "values.yaml": "replicas: many\n",
        "a.yaml.j2": "{# a comment #}\n" + DEPLOYMENT.replace("s: 2", "s: {{ replicas }}"),
    }
    problem = judge.problem(files)
    assert str(problem.place) == "a.yaml.j2:7:13"
    assert problem.width == len("{{ replicas }}")
    assert problem.message == 'spec.replicas must be a whole number, not "many"'


def test_an_error_inside_an_include_names_the_included_line_and_the_way_there(judge):
    files = {
        "apps/a.yaml.j2": "# top\n{% include 'labels.j2' %}\n",
        "templates/labels.j2": "x:\n  y: {{ colour }}\n",
    }
    problem = judge.problem(files)
    assert str(problem.place) == "templates/labels.j2:2:9"
    assert [str(place) for place in problem.via] == ["apps/a.yaml.j2:2"]


def test_an_error_inside_a_macro_names_the_macros_line_and_the_call(judge):
    files = {
        "a.yaml.j2": "{% from 'lib.j2' import name %}\n---\nx: {{ name('y') }}\n",
        "templates/lib.j2": "{% macro name(of) %}\n  {{ of }}-{{ region }}\n{% endmacro %}\n",
    }
    problem = judge.problem(files)
    assert str(problem.place) == "templates/lib.j2:2:15"
    assert [str(place) for place in problem.via] == ["a.yaml.j2:3"]


def test_two_templates_that_include_each_other_are_named_in_their_order(judge):
    files = {"a.yaml.j2": "{% include 'b.j2' %}", "templates/b.j2": "\n{% include 'c.j2' %}",
             "templates/c.j2": "{% include 'b.j2' %}"}  # fmt: skip
    problem = judge.problem(files)
    assert str(problem.place) == "a.yaml.j2:1"
    assert problem.message.endswith("a.yaml.j2 -> templates/b.j2 -> templates/c.j2 -> templates/b.j2")


def test_an_object_of_a_rendered_file_knows_its_line_in_the_template(judge):
    files = {"a.yaml.j2": "{% for n in range(2) %}\n---\n" + TEMPLATE.format("c{{ n }}") + "{% endfor %}\n"}
    result = judge(files)
    assert [(str(one.ref), str(one.place)) for one in result.objects] == [
        ("ConfigMap default/c0", "a.yaml.j2:3:1"),
        ("ConfigMap default/c1", "a.yaml.j2:3:1"),
    ]


def test_values_of_a_directory_go_over_those_above(judge):
    files = {
        "values.yaml": "a: {x: 1, y: 2}\nb: root\n",
        "apps/values.yaml": "a: {y: 3}\n",
        "apps/web/c.yaml.j2": NAMESPACED.replace("green", '"{{ a.x }}{{ a.y }}{{ b }}"'),
    }
    assert judge(files).objects[0].object["data"] == {"colour": "13root"}


def test_a_mistake_in_a_values_file_is_named_there(judge):
    files = {"values.yaml": "a: 1\na: 2\n", "a.yaml.j2": NAMESPACED}
    assert str(judge.problem(files).place) == "values.yaml:2:1"


def test_a_file_may_be_empty_when_it_says_so(judge):
    result = judge({"a.yaml.j2": "# gitkube:empty\n{% if false %}x{% endif %}\n", "b.yaml": NAMESPACED})
    assert not result.problems and len(result.objects) == 1


def test_a_commit_without_objects_is_an_error(judge):
    assert judge.problem({"README.md": "hello"}).message == "this commit renders to no object at all"


# ------------------------------------------------------------------ apps from templates

APP = """\
apiVersion: gitkube.dev/v1alpha1
kind: Template
template: web-app
name: hello
values:
  image: hello:1
"""


def test_an_app_from_a_template_is_a_deployment_and_a_service(judge):
    result = judge({"hello.yaml": APP})
    assert not result.problems
    assert {str(one.ref) for one in result.objects} == {"Deployment default/hello", "Service default/hello"}
    assert {str(one.place) for one in result.objects} == {"hello.yaml:1:1"}


@pytest.mark.parametrize(
    ("text", "place", "message", "hint"),
    [
        (APP.replace("web-app", "web-ap"), "hello.yaml:3:11", 'there is no template "web-ap"', "web-app"),
        (APP.replace("name:", "nmae:"), "hello.yaml:4:1", "unknown field nmae", "name"),
        (
            APP.replace("  image: hello:1", "  imagee: hello:1\n  image: x"),
            "hello.yaml:6:3",
            "unknown value",
            "image",
        ),
        (APP + "  port: http\n", "hello.yaml:7:9", "values.port", ""),
        (APP.replace("  image: hello:1", "  port: 80"), "hello.yaml:5:1", "values: ", ""),
    ],
)
def test_a_mistake_in_an_app_is_named_in_its_own_file(judge, text, place, message, hint):
    problems = judge({"hello.yaml": text}).problems
    assert str(problems[0].place) == place
    assert message in problems[0].message
    assert hint in problems[0].hint


# ------------------------------------------------------------------ what must never reach a terminal


def test_control_characters_of_a_file_never_reach_the_terminal(judge):
    from gitkube.gitops.problem import format_problems

    text = NAMESPACED.replace("data:", '"\\e[31mdata": 1\ndata:')
    lines = format_problems(judge({"a.yaml": text}).problems)
    assert lines and all(line.isprintable() for line in lines)


def test_the_value_of_a_secret_is_not_quoted_in_an_error(judge):
    text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData:\n  password: 123456789\n"
    from gitkube.gitops.problem import format_problems

    lines = "\n".join(format_problems(judge({"a.yaml": text}).problems))
    assert "a.yaml:5:13" in lines
    assert "123456789" not in lines
