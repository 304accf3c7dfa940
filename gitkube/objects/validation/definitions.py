"""Is a CustomResourceDefinition right: names, versions, conversion, columns, paths; schemas by
`structural.py`.

What all versions say alike, Kubernetes names once, as if it stood in the spec itself (`spec.validation`,
`spec.subresources`), and so do we.
Source: k8s.io/apiextensions-apiserver, pkg/apis/apiextensions/validation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from gitkube.objects import names
from gitkube.objects.custom.jsonpath import simple_fields
from gitkube.objects.custom.naming import APPROVAL, is_protected
from gitkube.objects.custom.schema import root_schema
from gitkube.objects.custom.structural import check_structural
from gitkube.objects.types import Object
from gitkube.objects.validation.causes import Causes

_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL_WORDS = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
    "character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for "
    "validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_MAX_LABEL = 63
_MAX_WARNING_BYTES = 256
_MAX_SELECTABLE = 8
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_COMMON = {
    "validation": "schema",
    "subresources": "subresources",
    "additionalPrinterColumns": "additionalPrinterColumns",
    "selectableFields": "selectableFields",
}
"""What Kubernetes names once, as if it stood in the spec itself -> the field of a version."""
_STORAGE = "must have exactly one version marked as storage version"


def _check_definition(causes: Causes, definition: Object) -> None:
    """All that can be said of a definition by itself."""
    spec = definition.get("spec") or {}
    group, scope = spec.get("group") or "", spec.get("scope") or ""
    plural = (spec.get("names") or {}).get("plural") or ""
    name = (definition.get("metadata") or {}).get("name") or ""
    if name != f"{plural}.{group}":
        causes.invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group')
    if not group:
        causes.required("spec.group")
    elif wrong := names.dns_subdomain(group):
        causes.invalids("spec.group", group, wrong)
    elif "." not in group:
        causes.invalid("spec.group", group, "should be a domain with at least one dot")
    causes.one_of("spec.scope", scope, ("Cluster", "Namespaced"))
    _check_approval(causes, definition, group)
    if spec.get("preserveUnknownFields"):
        text = "cannot set to true, set x-preserve-unknown-fields to true in spec.versions[*].schema instead"
        causes.invalid("spec.preserveUnknownFields", True, text)
    _check_names(causes, spec.get("names") or {}, "spec.names")
    _check_versions(causes, spec)
    _check_conversion(causes, spec.get("conversion") or {})


def check_definition_create(causes: Causes, definition: Object) -> None:
    """All that is asked of a new one; of others see `check_definition_update`."""
    _check_definition(causes, definition)
    _check_stored_versions(causes, definition)


def check_definition_update(causes: Causes, definition: Object, old: Object) -> None:
    """What may not change; of one that is established, more. What was taken once is not judged again, nor
    refused for what its rules are asked today, when its status or its labels change."""
    spec, before = definition.get("spec") or {}, old.get("spec") or {}
    if spec != before:  # through the status alone, the list of stored versions is whatever its writer says
        _check_definition(causes, definition)
        _check_stored_versions(causes, definition)
    else:
        _check_approval(causes, definition, spec.get("group") or "")
    causes.immutable("spec.group", spec.get("group"), before.get("group"))
    plural = (spec.get("names") or {}).get("plural")
    causes.immutable("spec.names.plural", plural, (before.get("names") or {}).get("plural"))
    if (spec.get("group"), plural) != (before.get("group"), (before.get("names") or {}).get("plural")):
        # It is said already; that the name does not fit the new one is the same mistake.
        causes.list[:] = [cause for cause in causes.list if cause["field"] != "metadata.name"]
    conditions = (old.get("status") or {}).get("conditions") or ()
    if any(one.get("type") == "Established" and one.get("status") == "True" for one in conditions):
        causes.immutable("spec.scope", spec.get("scope"), before.get("scope"))
        kind = (spec.get("names") or {}).get("kind")
        causes.immutable("spec.names.kind", kind, (before.get("names") or {}).get("kind"))


def _check_approval(causes: Causes, definition: Object, group: str) -> None:
    if not is_protected(group):
        return
    annotations = (definition.get("metadata") or {}).get("annotations") or {}
    text, field = str(annotations.get(APPROVAL) or ""), f"metadata.annotations[{APPROVAL}]"
    about = "see https://github.com/kubernetes/enhancements/pull/1111"
    if not text:
        causes.required(field, f'protected groups must have approval annotation "{APPROVAL}", {about}')
    elif not text.startswith("unapproved") and not urlsplit(text).scheme:
        why = f'protected groups must have approval annotation "{APPROVAL}" with either a URL or a reason '
        causes.invalid(field, text, f'{why}starting with "unapproved", {about}')


def _label(text: str) -> list[str]:
    wrong = [] if len(text) <= _MAX_LABEL else [f"must be no more than {_MAX_LABEL} characters"]
    return wrong if _DNS_1035.fullmatch(text) else [*wrong, _LABEL_WORDS]


def _check_names(causes: Causes, given: Mapping[str, Any], path: str) -> None:
    for field in ("plural", "singular", "kind", "listKind"):
        word = given.get(field) or ""
        if not word:
            causes.required(f"{path}.{field}")
        elif field in ("kind", "listKind"):
            if wrong := _label(word.lower()):
                text = f"may have mixed case, but should otherwise match: {', '.join(wrong)}"
                causes.invalid(f"{path}.{field}", word, text)
        else:
            causes.invalids(f"{path}.{field}", word, _label(word))
    if given.get("kind") and given.get("kind") == given.get("listKind"):
        causes.invalid(f"{path}.listKind", given["listKind"], "kind and listKind may not be the same")
    for field in ("shortNames", "categories"):
        for index, word in enumerate(given.get(field) or ()):
            causes.invalids(f"{path}.{field}[{index}]", word, _label(word))


def _check_versions(causes: Causes, spec: Mapping[str, Any]) -> None:
    versions: Sequence[Mapping[str, Any]] = spec.get("versions") or ()
    listed = [version.get("name") for version in versions]
    for index, version in enumerate(versions):
        path, name = f"spec.versions[{index}]", version.get("name") or ""
        causes.invalids(f"{path}.name", name, _label(name))
        if index == 0:
            causes.invalids("spec.version", name, _label(name))  # its name of old
        _check_deprecation(causes, version, path)
        if (version.get("schema") or {}).get("openAPIV3Schema") is None:
            causes.required(f"{path}.schema.openAPIV3Schema", "schemas are required")
    if len(set(listed)) < len(listed):
        causes.invalid("spec.versions", listed, "must contain unique version names")
    if sum(1 for version in versions if version.get("storage")) != 1:
        causes.invalid("spec.versions", listed, _STORAGE)
    for path, schema in _per_version(versions, "schema", "validation"):
        if (written := schema.get("openAPIV3Schema")) is not None:
            check_structural(causes, written, f"{path}.openAPIV3Schema")
    for path, subresources in _per_version(versions, "subresources", "subresources"):
        if (scale := subresources.get("scale")) is not None:
            _check_scale(causes, scale, f"{path}.scale")
    for path, columns in _per_version(versions, "additionalPrinterColumns", "additionalPrinterColumns"):
        for index, column in enumerate(columns):
            _check_column(causes, column, f"{path}[{index}]")
    fields = _per_version(versions, "selectableFields", "selectableFields")
    for position, (path, selectable) in enumerate(fields):
        written = (versions[position].get("schema") or {}).get("openAPIV3Schema") or {}
        _check_selectable(causes, selectable, written, path)


def written_field(field: str) -> str:
    """Where the author of a definition reads what a cause names once for all versions: in the first one."""
    above, _, rest = field.partition(".")
    word, dot, below = rest.partition(".")
    word, bracket, index = word.partition("[")
    if above != "spec" or word not in _COMMON:
        return field
    return f"spec.versions[0].{_COMMON[word]}{bracket}{index}{dot}{below}"


def _per_version(versions: Sequence[Mapping[str, Any]], field: str, common: str) -> list[tuple[str, Any]]:
    """What each version says, with its path; once, under the spec, when all say the same."""
    said = [version.get(field) for version in versions]
    if said and all(one == said[0] for one in said):
        return [(f"spec.{common}", said[0])] if said[0] is not None else []
    return [(f"spec.versions[{index}].{field}", one) for index, one in enumerate(said) if one is not None]


def _check_deprecation(causes: Causes, version: Mapping[str, Any], path: str) -> None:
    text, field = version.get("deprecationWarning"), f"{path}.deprecationWarning"
    if text is None:
        return
    if not version.get("deprecated"):
        causes.invalid(field, text, "can only be set for deprecated versions")
    if len(text.encode()) > _MAX_WARNING_BYTES:
        causes.invalid(field, text, f"must be <= {_MAX_WARNING_BYTES} characters long")
    if not text:
        causes.invalid(field, text, "must not be an empty string")
    for index, character in enumerate(text):
        if not character.isprintable():
            why = f"non-printable character found at index {index}"
            causes.invalid(field, text, f"must only contain printable UTF-8 characters; {why}")
            break


def _check_path(causes: Causes, text: str, field: str) -> bool:
    if not text.startswith("."):
        causes.invalid(field, text, "must be a simple json path starting with .")
        return False
    return True


def _check_scale(causes: Causes, scale: Mapping[str, Any], path: str) -> None:
    for field, above in (("specReplicasPath", ".spec"), ("statusReplicasPath", ".status")):
        text, place = scale.get(field) or "", f"{path}.{field}"
        if not text:
            causes.required(place)
        elif _check_path(causes, text, place) and not text.startswith(f"{above}."):
            causes.invalid(place, text, f"should be a json path under {above}")
    selector, place = scale.get("labelSelectorPath"), f"{path}.labelSelectorPath"
    if selector and _check_path(causes, selector, place) and not selector.startswith((".spec.", ".status.")):
        causes.invalid(place, selector, "should be a json path under either .spec or .status")


def _check_column(causes: Causes, column: Mapping[str, Any], path: str) -> None:
    if not column.get("name"):
        causes.required(f"{path}.name")
    kind, form, text = column.get("type") or "", column.get("format") or "", column.get("jsonPath") or ""
    words = f"must be one of {','.join(_COLUMN_TYPES)}"
    if not kind:
        causes.required(f"{path}.type", words)
    elif kind not in _COLUMN_TYPES:
        causes.invalid(f"{path}.type", kind, words)
    if form and form not in _COLUMN_FORMATS:
        causes.invalid(f"{path}.format", form, f"must be one of {','.join(_COLUMN_FORMATS)}")
    if not text:
        causes.required(f"{path}.JSONPath")
    else:
        _check_path(causes, text, f"{path}.JSONPath")


def _check_selectable(
    causes: Causes, selectable: Sequence[Mapping[str, Any]], schema: Mapping[str, Any], path: str
) -> None:
    if len(selectable) > _MAX_SELECTABLE:
        text = f"Too many: {len(selectable)}: must have at most {_MAX_SELECTABLE} items"
        causes.add("FieldValueTooMany", path, text)
    root, seen = root_schema(schema), set()
    for index, one in enumerate(selectable):
        text, place = one.get("jsonPath") or "", f"{path}[{index}].jsonPath"
        if not text:
            causes.required(place)
            continue
        if text in seen:
            causes.duplicate(place, text)
        seen.add(text)
        fields = simple_fields(text)
        if fields is None or fields[0] == "metadata":
            causes.invalid(place, text, "must be a simple path of fields outside metadata")
            continue
        found = root.at(*fields)
        if found is None:
            causes.invalid(place, text, "is an invalid path: does not refer to a valid field")
        elif not set(found.types) & {"string", "boolean", "integer"}:
            causes.invalid(place, text, "must point to a field of type string, boolean or integer")


def _check_conversion(causes: Causes, conversion: Mapping[str, Any]) -> None:
    strategy, webhook = conversion.get("strategy"), conversion.get("webhook")
    path, versions_path = "spec.conversion.webhookClientConfig", "spec.conversion.conversionReviewVersions"
    causes.one_of("spec.conversion.strategy", strategy, ("None", "Webhook"), is_required=False)
    config = (webhook or {}).get("clientConfig")
    versions = (webhook or {}).get("conversionReviewVersions") or []
    if strategy != "Webhook":
        if config is not None:
            causes.forbidden(path, "should not be set when strategy is not set to Webhook")
        if versions:
            causes.forbidden(versions_path, "should not be set when strategy is not set to Webhook")
        return
    if config is None:
        causes.required(path, "required when strategy is set to Webhook")
    else:
        _check_client(causes, config, path)
    if not versions:
        causes.required(versions_path)
        return
    for index, version in enumerate(versions):
        causes.invalids(f"{versions_path}[{index}]", version, _label(version))
    if not {"v1", "v1beta1"} & set(versions):
        causes.invalid(versions_path, versions, "must include at least one of v1, v1beta1")


def _check_client(causes: Causes, config: Mapping[str, Any], path: str) -> None:
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        causes.required(path, "exactly one of url or service is required")
        return
    if url is not None:
        parts, form = urlsplit(url), "desired format: https://host[/path]"
        if parts.scheme != "https":
            causes.invalid(f"{path}.url", parts.scheme, f"'https' is the only allowed URL scheme; {form}")
        if not parts.netloc:
            causes.invalid(f"{path}.url", parts.netloc, f"host must be specified; {form}")
        if parts.username is not None:
            causes.invalid(f"{path}.url", "<hidden>", "user information is not permitted in the URL")
        if parts.fragment:
            causes.invalid(f"{path}.url", parts.fragment, "fragments are not permitted in the URL")
        if parts.query:
            causes.invalid(f"{path}.url", parts.query, "query parameters are not permitted in the URL")
        return
    service = service or {}
    for field in ("name", "namespace"):
        if not service.get(field):
            causes.required(f"{path}.service.{field}", f"service {field} is required")
    causes.invalids(
        f"{path}.service.port", service.get("port"), names.port_number(service.get("port") or 443)
    )
    if (inside := service.get("path")) and not inside.startswith("/"):
        causes.invalid(f"{path}.service.path", inside, "must start with a '/'")


def _check_stored_versions(causes: Causes, definition: Object) -> None:
    stored = (definition.get("status") or {}).get("storedVersions") or []
    versions = (definition.get("spec") or {}).get("versions") or ()
    if not stored:
        causes.invalid("status.storedVersions", stored, "must have at least one stored version")
        return
    listed = {version.get("name"): bool(version.get("storage")) for version in versions}
    for index, name in enumerate(stored):
        if name not in listed:
            causes.invalid(f"status.storedVersions[{index}]", name, "must appear in spec.versions")
    for name, is_storage in listed.items():
        if is_storage and name not in stored:
            causes.invalid("status.storedVersions", stored, f"must have the storage version {name}")
