module cogniforge.dev/local/schemas

go 1.26.4

// Nothing here is compiled: `local/toolchain/upstream_schemas.py` takes schemas from these modules.
// Do not run `go mod tidy`: it would remove them.
require (
	github.com/aws/karpenter-provider-aws v1.14.1
	github.com/kedacore/keda/v2 v2.20.2
	github.com/kong/go-database-reconciler v1.31.6
	github.com/kong/kubernetes-configuration v1.5.2
	github.com/kserve/kserve v0.20.0
	github.com/prometheus-operator/prometheus-operator v0.93.0
	istio.io/api v1.30.3
	sigs.k8s.io/gateway-api v1.6.1
)
