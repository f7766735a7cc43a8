"""An API key from the platform's plugin. What `pulumi package add` generates for a language does the same."""

import pulumi


class ApiKey(pulumi.ComponentResource):
    """The plugin's component, by its token in the schema."""

    key: pulumi.Output[str]

    def __init__(self, name: str, namespace: pulumi.Input[str], secret_name: str) -> None:
        inputs = {"namespace": namespace, "secretName": secret_name, "key": None}
        super().__init__("cogniforge:index:ApiKey", name, inputs, remote=True, package_ref=None)


made = ApiKey("client", pulumi.Config().require("namespace"), "from-the-plugin")
pulumi.export("key", made.key)
