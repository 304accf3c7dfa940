"""Every kind that the API serves, one record each.

A kind is data: where it lives in the API, its names, its scope, its verbs and subresources. Adding a kind is
adding a record here; its schema comes from Kubernetes' own (`schema.py`), its defaults, checks and columns
from the tables beside this file, and a kind without an entry there has none of its own. The records are those
of Kubernetes 1.37's stable groups; `tools/check_kinds.py` compares them with a list made by others.

Two kinds are another spelling of one that is stored (`stored_as`), and some are questions that are answered
at once: they are served, and never stored. Kinds that a CustomResourceDefinition makes are not here but in
the registry of a running API (`registry.py`), which has these and those.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gitkube.objects.custom.definition import CustomKind

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource of the API. Two are equal when they are the same resource in the same version."""

    group: str
    """"" is the core group."""
    version: str
    kind: str
    plural: str
    namespaced: bool
    short_names: tuple[str, ...] = field(default=(), compare=False)
    categories: tuple[str, ...] = field(default=(), compare=False)
    """Words that name several kinds at once, such as "all"."""
    subresources: tuple[str, ...] = field(default=(), compare=False)
    """Such as "status", "scale", "log"."""
    verbs: tuple[str, ...] = field(default=ALL_VERBS, compare=False)
    stored_as: str = ""
    """The apiVersion under which its objects are stored; "" when that is its own."""
    singular_name: str = field(default="", compare=False)
    """"" means the kind in small letters."""
    list_kind_name: str = field(default="", compare=False)
    """"" means the kind and "List"."""
    custom: CustomKind | None = field(default=None, compare=False, repr=False)
    """Of a custom resource what its definition says beyond names; None of a built-in kind."""
    _identity: tuple[str, str, str, str, bool, str] = field(init=False, compare=False, repr=False)
    """What two are compared by; a request does it many times."""

    def __post_init__(self) -> None:
        identity = (self.group, self.version, self.kind, self.plural, self.namespaced, self.stored_as)
        object.__setattr__(self, "_identity", identity)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Kind) and self._identity == other._identity)

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def singular(self) -> str:
        return self.singular_name or self.kind.lower()

    @property
    def list_kind(self) -> str:
        return self.list_kind_name or f"{self.kind}List"

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


_ALL = ("all",)
_EXTENSIONS = ("api-extensions",)
_STATUS = ("status",)
_STATUS_SCALE = ("status", "scale")
_NO_COLLECTION = tuple(verb for verb in ALL_VERBS if verb != "deletecollection")

# ---------------------------------------------------------------------------------------------------- core

NAMESPACE = Kind(
    "", "v1", "Namespace", "namespaces", False, ("ns",), (), ("status", "finalize"), _NO_COLLECTION
)
NODE = Kind("", "v1", "Node", "nodes", False, ("no",), (), (*_STATUS, "proxy"))
POD = Kind(
    "", "v1", "Pod", "pods", True, ("po",), _ALL,
    ("status", "binding", "eviction", "log", "exec", "attach", "portforward", "proxy", "ephemeralcontainers",
     "resize"),
)  # fmt: skip
BINDING = Kind("", "v1", "Binding", "bindings", True, verbs=("create",))
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps", True, ("cm",))
SECRET = Kind("", "v1", "Secret", "secrets", True)
SERVICE = Kind("", "v1", "Service", "services", True, ("svc",), _ALL, (*_STATUS, "proxy"))
SERVICE_ACCOUNT = Kind("", "v1", "ServiceAccount", "serviceaccounts", True, ("sa",), (), ("token",))
EVENT = Kind("", "v1", "Event", "events", True, ("ev",))
ENDPOINTS = Kind("", "v1", "Endpoints", "endpoints", True, ("ep",))
PERSISTENT_VOLUME = Kind("", "v1", "PersistentVolume", "persistentvolumes", False, ("pv",), (), _STATUS)
PERSISTENT_VOLUME_CLAIM = Kind(
    "", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", True, ("pvc",), (), _STATUS
)
REPLICATION_CONTROLLER = Kind(
    "", "v1", "ReplicationController", "replicationcontrollers", True, ("rc",), _ALL, _STATUS_SCALE
)
POD_TEMPLATE = Kind("", "v1", "PodTemplate", "podtemplates", True)
LIMIT_RANGE = Kind("", "v1", "LimitRange", "limitranges", True, ("limits",))
RESOURCE_QUOTA = Kind("", "v1", "ResourceQuota", "resourcequotas", True, ("quota",), (), _STATUS)

# -------------------------------------------------------------------------------- what runs, and how many

DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments", True, ("deploy",), _ALL, _STATUS_SCALE)
REPLICA_SET = Kind("apps", "v1", "ReplicaSet", "replicasets", True, ("rs",), _ALL, _STATUS_SCALE)
STATEFUL_SET = Kind("apps", "v1", "StatefulSet", "statefulsets", True, ("sts",), _ALL, _STATUS_SCALE)
DAEMON_SET = Kind("apps", "v1", "DaemonSet", "daemonsets", True, ("ds",), _ALL, _STATUS)
CONTROLLER_REVISION = Kind("apps", "v1", "ControllerRevision", "controllerrevisions", True)
JOB = Kind("batch", "v1", "Job", "jobs", True, (), _ALL, _STATUS)
CRON_JOB = Kind("batch", "v1", "CronJob", "cronjobs", True, ("cj",), _ALL, _STATUS)
HORIZONTAL_POD_AUTOSCALER = Kind(
    "autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", True, ("hpa",), _ALL, _STATUS
)
HORIZONTAL_POD_AUTOSCALER_V1 = Kind(
    "autoscaling", "v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers", True, ("hpa",), _ALL, _STATUS,
    stored_as="autoscaling/v2",
)  # fmt: skip
POD_DISRUPTION_BUDGET = Kind(
    "policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", True, ("pdb",), (), _STATUS
)
PRIORITY_CLASS = Kind("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", False, ("pc",))
RUNTIME_CLASS = Kind("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", False)

# -------------------------------------------------------------------------------------------------- network

ENDPOINT_SLICE = Kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", True)
_NETWORKING = "networking.k8s.io"
INGRESS = Kind(_NETWORKING, "v1", "Ingress", "ingresses", True, ("ing",), (), _STATUS)
INGRESS_CLASS = Kind(_NETWORKING, "v1", "IngressClass", "ingressclasses", False)
NETWORK_POLICY = Kind(_NETWORKING, "v1", "NetworkPolicy", "networkpolicies", True, ("netpol",))
IP_ADDRESS = Kind(_NETWORKING, "v1", "IPAddress", "ipaddresses", False, ("ip",))
SERVICE_CIDR = Kind(_NETWORKING, "v1", "ServiceCIDR", "servicecidrs", False, (), (), _STATUS)

# -------------------------------------------------------------------------------------------------- storage

_STORAGE = "storage.k8s.io"
STORAGE_CLASS = Kind(_STORAGE, "v1", "StorageClass", "storageclasses", False, ("sc",))
VOLUME_ATTACHMENT = Kind(_STORAGE, "v1", "VolumeAttachment", "volumeattachments", False, (), (), _STATUS)
VOLUME_ATTRIBUTES_CLASS = Kind(
    _STORAGE, "v1", "VolumeAttributesClass", "volumeattributesclasses", False, ("vac",)
)
CSI_DRIVER = Kind(_STORAGE, "v1", "CSIDriver", "csidrivers", False)
CSI_NODE = Kind(_STORAGE, "v1", "CSINode", "csinodes", False, (), (), _STATUS)
CSI_STORAGE_CAPACITY = Kind(_STORAGE, "v1", "CSIStorageCapacity", "csistoragecapacities", True)
STORAGE_VERSION_MIGRATION = Kind(
    "storagemigration.k8s.io", "v1", "StorageVersionMigration", "storageversionmigrations", False,
    (), (), _STATUS,
)  # fmt: skip

# ------------------------------------------------------------------------------------------ who may do what

_RBAC = "rbac.authorization.k8s.io"
ROLE = Kind(_RBAC, "v1", "Role", "roles", True)
ROLE_BINDING = Kind(_RBAC, "v1", "RoleBinding", "rolebindings", True)
CLUSTER_ROLE = Kind(_RBAC, "v1", "ClusterRole", "clusterroles", False)
CLUSTER_ROLE_BINDING = Kind(_RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", False)
_CERTIFICATES = "certificates.k8s.io"
CERTIFICATE_SIGNING_REQUEST = Kind(
    _CERTIFICATES, "v1", "CertificateSigningRequest", "certificatesigningrequests", False, ("csr",), (),
    ("status", "approval"),
)  # fmt: skip
CLUSTER_TRUST_BUNDLE = Kind(_CERTIFICATES, "v1", "ClusterTrustBundle", "clustertrustbundles", False)
POD_CERTIFICATE_REQUEST = Kind(
    _CERTIFICATES, "v1", "PodCertificateRequest", "podcertificaterequests", True, (), (), _STATUS
)

# -------------------------------------------------------------------------------------- the API about itself

_ADMISSION = "admissionregistration.k8s.io"
MUTATING_WEBHOOK_CONFIGURATION = Kind(
    _ADMISSION, "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", False, (), _EXTENSIONS
)
VALIDATING_WEBHOOK_CONFIGURATION = Kind(
    _ADMISSION, "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", False,
    (), _EXTENSIONS,
)  # fmt: skip
MUTATING_ADMISSION_POLICY = Kind(
    _ADMISSION, "v1", "MutatingAdmissionPolicy", "mutatingadmissionpolicies", False, (), _EXTENSIONS
)
MUTATING_ADMISSION_POLICY_BINDING = Kind(
    _ADMISSION, "v1", "MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings", False,
    (), _EXTENSIONS,
)  # fmt: skip
VALIDATING_ADMISSION_POLICY = Kind(
    _ADMISSION, "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", False,
    (), _EXTENSIONS, _STATUS,
)  # fmt: skip
VALIDATING_ADMISSION_POLICY_BINDING = Kind(
    _ADMISSION, "v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", False,
    (), _EXTENSIONS,
)  # fmt: skip
CUSTOM_RESOURCE_DEFINITION = Kind(
    "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", False,
    ("crd", "crds"), _EXTENSIONS, _STATUS,
)  # fmt: skip
API_SERVICE = Kind(
    "apiregistration.k8s.io", "v1", "APIService", "apiservices", False, (), _EXTENSIONS, _STATUS
)
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases", True)
EVENT_V1 = Kind("events.k8s.io", "v1", "Event", "events", True, ("ev",), stored_as="v1")
_FLOW_CONTROL = "flowcontrol.apiserver.k8s.io"
FLOW_SCHEMA = Kind(_FLOW_CONTROL, "v1", "FlowSchema", "flowschemas", False, (), (), _STATUS)
PRIORITY_LEVEL_CONFIGURATION = Kind(
    _FLOW_CONTROL, "v1", "PriorityLevelConfiguration", "prioritylevelconfigurations", False, (), (), _STATUS
)

# ---------------------------------------------------------- questions, answered at once and never stored

_QUESTION = ("create",)
_AUTHORIZATION = "authorization.k8s.io"
TOKEN_REVIEW = Kind("authentication.k8s.io", "v1", "TokenReview", "tokenreviews", False, verbs=_QUESTION)
TOKEN_REQUEST = Kind("authentication.k8s.io", "v1", "TokenRequest", "tokenrequests", True, verbs=())
"""Only asked of the subresource `token` of a ServiceAccount, so it is not among what is served."""
SELF_SUBJECT_REVIEW = Kind(
    "authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", False, verbs=_QUESTION
)
SELF_SUBJECT_ACCESS_REVIEW = Kind(
    _AUTHORIZATION, "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", False, verbs=_QUESTION
)
SELF_SUBJECT_RULES_REVIEW = Kind(
    _AUTHORIZATION, "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", False, verbs=_QUESTION
)
SUBJECT_ACCESS_REVIEW = Kind(
    _AUTHORIZATION, "v1", "SubjectAccessReview", "subjectaccessreviews", False, verbs=_QUESTION
)
LOCAL_SUBJECT_ACCESS_REVIEW = Kind(
    _AUTHORIZATION, "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews", True, verbs=_QUESTION
)

# ---------------------------------------------------------------------------------------------- devices

_RESOURCE = "resource.k8s.io"
DEVICE_CLASS = Kind(_RESOURCE, "v1", "DeviceClass", "deviceclasses", False)
DEVICE_TAINT_RULE = Kind(_RESOURCE, "v1", "DeviceTaintRule", "devicetaintrules", False, (), (), _STATUS)
RESOURCE_CLAIM = Kind(_RESOURCE, "v1", "ResourceClaim", "resourceclaims", True, (), (), _STATUS)
RESOURCE_CLAIM_TEMPLATE = Kind(_RESOURCE, "v1", "ResourceClaimTemplate", "resourceclaimtemplates", True)
RESOURCE_SLICE = Kind(_RESOURCE, "v1", "ResourceSlice", "resourceslices", False)

# ----------------------------------------------------------------------------------------------- our own

SOURCE = Kind("gitkube.dev", "v1alpha1", "Source", "sources", False, ("src",), (), _STATUS)
"""A git repository and branch that the cluster follows; its status says which commit is in force."""

BUILT_IN: tuple[Kind, ...] = (
    NAMESPACE, NODE, POD, CONFIG_MAP, SECRET, SERVICE, SERVICE_ACCOUNT, EVENT, ENDPOINTS, ENDPOINT_SLICE,
    PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, REPLICATION_CONTROLLER, POD_TEMPLATE, LIMIT_RANGE,
    RESOURCE_QUOTA, DEPLOYMENT, REPLICA_SET, STATEFUL_SET, DAEMON_SET, CONTROLLER_REVISION, JOB, CRON_JOB,
    HORIZONTAL_POD_AUTOSCALER, POD_DISRUPTION_BUDGET, PRIORITY_CLASS, RUNTIME_CLASS, INGRESS, INGRESS_CLASS,
    NETWORK_POLICY, IP_ADDRESS, SERVICE_CIDR, STORAGE_CLASS, VOLUME_ATTACHMENT, VOLUME_ATTRIBUTES_CLASS,
    CSI_DRIVER, CSI_NODE, CSI_STORAGE_CAPACITY, STORAGE_VERSION_MIGRATION, ROLE, ROLE_BINDING, CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING, CERTIFICATE_SIGNING_REQUEST, CLUSTER_TRUST_BUNDLE, POD_CERTIFICATE_REQUEST,
    MUTATING_WEBHOOK_CONFIGURATION, VALIDATING_WEBHOOK_CONFIGURATION, MUTATING_ADMISSION_POLICY,
    MUTATING_ADMISSION_POLICY_BINDING, VALIDATING_ADMISSION_POLICY, VALIDATING_ADMISSION_POLICY_BINDING,
    CUSTOM_RESOURCE_DEFINITION, API_SERVICE, LEASE, FLOW_SCHEMA, PRIORITY_LEVEL_CONFIGURATION, DEVICE_CLASS,
    DEVICE_TAINT_RULE, RESOURCE_CLAIM, RESOURCE_CLAIM_TEMPLATE, RESOURCE_SLICE, SOURCE,
)  # fmt: skip
"""All that is stored."""
QUESTIONS: tuple[Kind, ...] = (
    TOKEN_REVIEW,
    SELF_SUBJECT_REVIEW,
    SELF_SUBJECT_ACCESS_REVIEW,
    SELF_SUBJECT_RULES_REVIEW,
    SUBJECT_ACCESS_REVIEW,
    LOCAL_SUBJECT_ACCESS_REVIEW,
    BINDING,
)
SERVED: tuple[Kind, ...] = (*BUILT_IN, HORIZONTAL_POD_AUTOSCALER_V1, EVENT_V1, *QUESTIONS)
"""All that clients may ask for. Of a group's versions the best comes first."""

_BY_GVK = {(kind.api_version, kind.kind): kind for kind in SERVED}
_BY_RESOURCE = {(kind.group, kind.version, kind.plural): kind for kind in SERVED}


def by_gvk(api_version: str, kind: str) -> Kind | None:
    """The kind that a manifest's `apiVersion` and `kind` name, or None when it is not served."""
    return _BY_GVK.get((api_version, kind))


def by_resource(group: str, version: str, plural: str) -> Kind | None:
    """The kind behind a path such as `/apis/apps/v1/deployments`."""
    return _BY_RESOURCE.get((group, version, plural))


def by_name(word: str) -> Kind | None:
    """The kind that a person means: plural, singular, short name or kind, alone or with its group.

    Such as `po`, `pods`, `Pod`, `deploy`, `deployments.apps`. Case does not matter.
    """
    return _BY_NAME.get(word.lower())


def stored_kind(kind: Kind) -> Kind:
    """The kind under which objects are stored: nearly always the kind itself."""
    return _BY_GVK[(kind.stored_as, kind.kind)] if kind.stored_as else kind


_BY_NAME: dict[str, Kind] = {}
for _kind in SERVED:
    for _word in (_kind.plural, _kind.singular, *_kind.short_names):
        _BY_NAME.setdefault(_word, _kind)
        if _kind.group:
            _BY_NAME.setdefault(f"{_word}.{_kind.group}", _kind)
