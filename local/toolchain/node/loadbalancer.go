package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// offsetAnnotation is added to each port of a Service to find its port on
// loopback: "8000" serves port 443 at 127.0.0.1:8443.
const offsetAnnotation = "cogniforge.dev/local-port-offset"

// loadBalancer answers Services of type LoadBalancer with loopback listeners,
// as a cloud's controller answers them with a balancer of its own.
type loadBalancer struct {
	client    kubernetes.Interface
	mu        sync.Mutex
	listeners map[string]map[string]net.Listener // Service -> "listen>backend" -> listener
}

// splice copies both ways until both sides are done, passing half-closes on.
func splice(client net.Conn, backend string) {
	defer client.Close()
	upstream, err := net.Dial("tcp", backend)
	if err != nil {
		klog.V(2).InfoS("backend refused", "backend", backend, "err", err)
		return
	}
	defer upstream.Close()
	var both sync.WaitGroup
	pipe := func(dst, src net.Conn) {
		defer both.Done()
		_, _ = io.Copy(dst, src)
		if tcp, ok := dst.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
	}
	both.Add(2)
	go pipe(upstream, client)
	go pipe(client, upstream)
	both.Wait()
}

func serve(listener net.Listener, backend string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return // closed
		}
		go splice(conn, backend)
	}
}

// wanted lists the listeners that a Service asks for.
func wanted(svc *v1.Service) map[string][2]string {
	result := map[string][2]string{}
	if svc.Spec.Type != v1.ServiceTypeLoadBalancer || svc.DeletionTimestamp != nil || svc.Spec.ClusterIP == "" {
		return result
	}
	offset, _ := strconv.Atoi(svc.Annotations[offsetAnnotation])
	for _, port := range svc.Spec.Ports {
		if port.Protocol != v1.ProtocolTCP && port.Protocol != "" {
			continue
		}
		listen := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port.Port)+offset))
		backend := net.JoinHostPort(svc.Spec.ClusterIP, strconv.Itoa(int(port.Port)))
		result[listen+">"+backend] = [2]string{listen, backend}
	}
	return result
}

func (b *loadBalancer) sync(ctx context.Context, key string, svc *v1.Service) {
	b.mu.Lock()
	defer b.mu.Unlock()
	want := map[string][2]string{}
	if svc != nil {
		want = wanted(svc)
	}
	have := b.listeners[key]
	if have == nil {
		have = map[string]net.Listener{}
		b.listeners[key] = have
	}
	for id, listener := range have {
		if _, keep := want[id]; !keep {
			listener.Close()
			delete(have, id)
		}
	}
	failed := false
	for id, pair := range want {
		if have[id] != nil {
			continue
		}
		listener, err := net.Listen("tcp", pair[0])
		if err != nil {
			failed = true
			b.warn(ctx, svc, fmt.Sprintf("cannot listen on %s: %v", pair[0], err))
			continue
		}
		have[id] = listener
		go serve(listener, pair[1])
	}
	if len(want) == 0 {
		delete(b.listeners, key)
		return
	}
	if !failed {
		b.publish(ctx, svc)
	}
}

// publish writes the address that callers use into the Service's status.
func (b *loadBalancer) publish(ctx context.Context, svc *v1.Service) {
	status := v1.LoadBalancerStatus{Ingress: []v1.LoadBalancerIngress{{Hostname: "localhost"}}}
	if equality.Semantic.DeepEqual(svc.Status.LoadBalancer, status) {
		return
	}
	updated := svc.DeepCopy()
	updated.Status.LoadBalancer = status
	if _, err := b.client.CoreV1().Services(svc.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{}); err != nil {
		klog.ErrorS(err, "cannot write status", "service", klog.KObj(svc))
	}
}

// warn leaves the reason where `kubectl describe service` shows it.
func (b *loadBalancer) warn(ctx context.Context, svc *v1.Service, message string) {
	klog.InfoS(message, "service", klog.KObj(svc))
	now := metav1.Now()
	_, _ = b.client.CoreV1().Events(svc.Namespace).Create(ctx, &v1.Event{
		ObjectMeta:     metav1.ObjectMeta{GenerateName: svc.Name + "-", Namespace: svc.Namespace},
		InvolvedObject: v1.ObjectReference{APIVersion: "v1", Kind: "Service", Name: svc.Name, Namespace: svc.Namespace, UID: svc.UID},
		Reason:         "PortUnavailable", Message: message, Type: v1.EventTypeWarning,
		Source: v1.EventSource{Component: "load-balancer"}, FirstTimestamp: now, LastTimestamp: now, Count: 1,
	}, metav1.CreateOptions{})
}

// runLoadBalancer starts the controller and blocks until it is told to stop.
func runLoadBalancer() int {
	flags := flag.NewFlagSet("load-balancer", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "kubeconfig with rights on services and their status")
	_ = flags.Parse(os.Args[1:])
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		fmt.Fprintln(os.Stderr, "load-balancer:", err)
		return 1
	}
	ctx := server.SetupSignalContext()
	client := kubernetes.NewForConfigOrDie(config)
	balancer := &loadBalancer{client: client, listeners: map[string]map[string]net.Listener{}}
	// The resync repeats what failed, such as a port that was taken at the time.
	factory := informers.NewSharedInformerFactory(client, 15_000_000_000)
	services := factory.Core().V1().Services().Informer()
	apply := func(obj any) {
		if svc, ok := obj.(*v1.Service); ok {
			balancer.sync(ctx, svc.Namespace+"/"+svc.Name, svc)
		}
	}
	_, err = services.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    apply,
		UpdateFunc: func(_, obj any) { apply(obj) },
		DeleteFunc: func(obj any) {
			if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj); err == nil {
				balancer.sync(ctx, key, nil)
			}
		},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "load-balancer:", err)
		return 1
	}
	factory.Start(ctx.Done())
	<-ctx.Done()
	return 0
}
