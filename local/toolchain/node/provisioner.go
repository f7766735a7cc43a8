package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// provisionerName is what a StorageClass names in its `provisioner` field.
const provisionerName = "cogniforge.dev/local-path"

// localPath provisions a directory per volume on the one node that it runs on.
type localPath struct{ root string }

func (p *localPath) directory(volume string) string { return filepath.Join(p.root, volume) }

// Provision makes the volume's directory and describes it as a hostPath-backed
// local volume that is bound to the node that the scheduler chose.
func (p *localPath) Provision(_ context.Context, o controller.ProvisionOptions) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	for _, mode := range o.PVC.Spec.AccessModes {
		if mode != v1.ReadWriteOnce && mode != v1.ReadWriteOncePod {
			return nil, controller.ProvisioningFinished, fmt.Errorf("access mode %s is not supported: a local path serves one node; use ReadWriteOnce", mode)
		}
	}
	if o.PVC.Spec.VolumeMode != nil && *o.PVC.Spec.VolumeMode == v1.PersistentVolumeBlock {
		return nil, controller.ProvisioningFinished, fmt.Errorf("volumeMode Block is not supported: a local path is a file system")
	}
	if o.SelectedNodeName == "" {
		return nil, controller.ProvisioningFinished, fmt.Errorf("the StorageClass must use volumeBindingMode WaitForFirstConsumer")
	}
	path := p.directory(o.PVName)
	if err := os.MkdirAll(path, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	// MkdirAll obeys the umask; a pod that runs as any user must be able to write.
	if err := os.Chmod(path, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: o.PVName},
		Spec: v1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *o.StorageClass.ReclaimPolicy,
			AccessModes:                   o.PVC.Spec.AccessModes,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: o.PVC.Spec.Resources.Requests[v1.ResourceStorage]},
			PersistentVolumeSource:        v1.PersistentVolumeSource{Local: &v1.LocalVolumeSource{Path: path}},
			NodeAffinity: &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{
				MatchExpressions: []v1.NodeSelectorRequirement{{
					Key: v1.LabelHostname, Operator: v1.NodeSelectorOpIn,
					Values: []string{o.SelectedNodeName},
				}},
			}}}},
		},
	}, controller.ProvisioningFinished, nil
}

// Delete removes the directory of a released volume.
func (p *localPath) Delete(_ context.Context, volume *v1.PersistentVolume) error {
	path := p.directory(volume.Name)
	if volume.Spec.Local == nil || volume.Spec.Local.Path != path {
		return fmt.Errorf("volume %s is not under %s: not deleting it", volume.Name, p.root)
	}
	return os.RemoveAll(path)
}

// runProvisioner starts the provisioner and blocks until it is told to stop.
func runProvisioner() int {
	flags := flag.NewFlagSet("volume-provisioner", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "kubeconfig with rights on volumes, claims and storage classes")
	root := flags.String("root", "", "directory that holds one directory per volume")
	_ = flags.Parse(os.Args[1:])
	if *root == "" || !filepath.IsAbs(*root) {
		fmt.Fprintln(os.Stderr, "volume-provisioner: --root must be an absolute path")
		return 2
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		fmt.Fprintln(os.Stderr, "volume-provisioner:", err)
		return 1
	}
	ctx := server.SetupSignalContext()
	client := kubernetes.NewForConfigOrDie(config)
	growClaims(ctx, client)
	provisioner := controller.NewProvisionController(
		ctx, client, provisionerName, &localPath{root: *root},
		controller.LeaderElection(false),
	)
	provisioner.Run(ctx)
	return 0
}
