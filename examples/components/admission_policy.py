"""Only two images may run in the namespaces with the label cogniforge.dev/admission=shop."""

import pulumi
from cogniforge.security.admission_policy import AdmissionPolicy

config = pulumi.Config()
policy = AdmissionPolicy(
    "shop",
    {"namespace": "shop", "images": [config.require("kafka-image"), config.require("postgres-image")]},
)
