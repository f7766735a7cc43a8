package main

import (
	"context"
	"fmt"
	"os"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// resync is how long a growth that failed waits for the next try.
const resync = 10 * time.Second

// growClaims does for a claim that asks for more what an external resizer does: a directory has
// as much room as its disk, so the volume's capacity and the claim's status are all there is to change.
func growClaims(ctx context.Context, client kubernetes.Interface) {
	factory := informers.NewSharedInformerFactory(client, resync)
	claims := factory.Core().V1().PersistentVolumeClaims().Informer()
	look := func(object any) {
		if claim, ok := object.(*v1.PersistentVolumeClaim); ok {
			if err := grow(ctx, client, claim); err != nil {
				fmt.Fprintf(os.Stderr, "volume-provisioner: growing %s/%s: %v\n", claim.Namespace, claim.Name, err)
			}
		}
	}
	_, _ = claims.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    look,
		UpdateFunc: func(_, object any) { look(object) },
	})
	factory.Start(ctx.Done())
}

func grow(ctx context.Context, client kubernetes.Interface, claim *v1.PersistentVolumeClaim) error {
	wanted, there := claim.Spec.Resources.Requests[v1.ResourceStorage], claim.Status.Capacity[v1.ResourceStorage]
	if claim.Status.Phase != v1.ClaimBound || wanted.Cmp(there) <= 0 {
		return nil
	}
	volume, err := client.CoreV1().PersistentVolumes().Get(ctx, claim.Spec.VolumeName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if volume.Annotations["pv.kubernetes.io/provisioned-by"] != provisionerName {
		return nil
	}
	size := fmt.Sprintf(`{"storage":%q}`, wanted.String())
	patch := []byte(`{"spec":{"capacity":` + size + `}}`)
	if _, err := client.CoreV1().PersistentVolumes().Patch(ctx, volume.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return err
	}
	patch = []byte(`{"status":{"capacity":` + size + `,"conditions":null}}`)
	_, err = client.CoreV1().PersistentVolumeClaims(claim.Namespace).Patch(
		ctx, claim.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}
