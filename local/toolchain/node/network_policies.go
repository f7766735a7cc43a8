package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/cloudnativelabs/kube-router/v2/pkg/controllers/netpol"
	"github.com/cloudnativelabs/kube-router/v2/pkg/healthcheck"
	"github.com/cloudnativelabs/kube-router/v2/pkg/options"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// fullSync is how often all rules are compared with the API. Changes of pods,
// namespaces and policies are applied when they happen.
const fullSync = 5 * time.Minute

// runNetworkPolicies enforces NetworkPolicies with kube-router's policy
// controller. No other part of kube-router runs: CNI's ptp plugin makes the
// routes and kube-proxy serves the Services.
func runNetworkPolicies() int {
	flags := flag.NewFlagSet("network-policies", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "path of the kubeconfig file")
	services := flags.String("service-cidr", "", "addresses of Services, such as 198.19.0.0/16")
	node := flags.String("hostname-override", "", "name of this node")
	_ = flags.Parse(os.Args[1:])
	if err := enforce(server.SetupSignalContext(), *kubeconfig, *services, *node); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// enforce runs until the context ends. Rules stay when it returns: a restart of
// the controller opens nothing.
func enforce(ctx context.Context, kubeconfig, services, node string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	// The controller reads the address of its node when it is made, so the kubelet has to register first.
	if err := wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
		found, err := client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		return err == nil && len(found.Status.Addresses) > 0, nil
	}); err != nil {
		return nil // ended before the node was there
	}

	settings := options.NewKubeRouterConfig()
	settings.ClusterIPCIDRs = []string{services}
	settings.EnableIPv4, settings.EnableIPv6 = true, false
	settings.HostnameOverride = node
	settings.IPTablesSyncPeriod = fullSync

	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods().Informer()
	namespaces := factory.Core().V1().Namespaces().Informer()
	policies := factory.Networking().V1().NetworkPolicies().Informer()
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), pods.HasSynced, namespaces.HasSynced, policies.HasSynced) {
		return nil
	}
	iptables, sets, err := netpol.NewIPTablesHandlers(settings)
	if err != nil {
		return err
	}
	controller, err := netpol.NewNetworkPolicyController(
		client, settings, pods, policies, namespaces, &sync.Mutex{}, iptables, sets)
	if err != nil {
		return err
	}
	for _, watched := range []struct {
		informer cache.SharedIndexInformer
		handler  cache.ResourceEventHandler
	}{
		{pods, controller.PodEventHandler},
		{namespaces, controller.NamespaceEventHandler},
		{policies, controller.NetworkPolicyEventHandler},
	} {
		if _, err := watched.informer.AddEventHandler(watched.handler); err != nil {
			return err
		}
	}
	// kube-router's health server is not part of this program: the channel only has to be read.
	beats := make(chan *healthcheck.ControllerHeartbeat, 1)
	go func() {
		for range beats {
		}
	}()
	klog.InfoS("enforcing NetworkPolicies", "node", node)
	var running sync.WaitGroup
	running.Add(1)
	go controller.Run(beats, ctx.Done(), &running)
	running.Wait()
	return nil
}
