// Package conformance runs the Gateway API's own conformance suite.
//
// In: a cluster with the mesh (KUBECONFIG), the suite's own flags, and a file of options (mesh.yaml, gateway.yaml) that says which
// profiles are claimed and what is skipped, with the reason. Out: the suite's report. Absent: tests of our own.
package conformance

import (
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
)

func TestConformance(t *testing.T) {
	conformance.RunConformance(t)
}
