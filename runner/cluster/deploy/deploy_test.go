package deploy

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// render renders a folder as "kubectl kustomize" does, and decodes each document into the type
// that the API server has for it: an unknown or doubled field is an error.
func render(t *testing.T, folder string) map[string]runtime.Object {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, autoscalingv2.AddToScheme, corev1.AddToScheme, policyv1.AddToScheme} {
		require.NoError(t, add(scheme))
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	all, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	require.NoError(t, err)
	objects := make(map[string]runtime.Object)
	for _, resource := range all.Resources() {
		text, err := resource.AsYAML()
		require.NoError(t, err)
		if resource.GetKind() == "ScaledObject" {
			objects["ScaledObject"] = scaledObjectOf(t, text)
			continue
		}
		object, kind, err := decoder.Decode(text, nil, nil)
		require.NoError(t, err, string(text))
		objects[kind.Kind] = object
	}
	return objects
}

// scaledObject has the fields of KEDA's type that the manifest uses. KEDA's own package needs far
// more than this module.
type scaledObject struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		ScaleTargetRef struct {
			Name string `json:"name"`
		} `json:"scaleTargetRef"`
		MinReplicaCount *int32 `json:"minReplicaCount"`
		MaxReplicaCount *int32 `json:"maxReplicaCount"`
		CooldownPeriod  *int32 `json:"cooldownPeriod"`
		Triggers        []struct {
			Type     string            `json:"type"`
			Metadata map[string]string `json:"metadata"`
		} `json:"triggers"`
	} `json:"spec"`
}

// DeepCopyObject implements [runtime.Object].
func (s *scaledObject) DeepCopyObject() runtime.Object {
	other := *s
	return &other
}

func scaledObjectOf(t *testing.T, text []byte) *scaledObject {
	t.Helper()
	s := new(scaledObject)
	require.NoError(t, yaml.UnmarshalStrict(text, s))
	require.Len(t, s.Spec.Triggers, 3)
	for _, trigger := range s.Spec.Triggers {
		assert.Equal(t, "nats-jetstream", trigger.Type)
		for _, key := range []string{"natsServerMonitoringEndpoint", "account", "stream", "consumer", "lagThreshold"} {
			assert.NotEmpty(t, trigger.Metadata[key], key)
		}
	}
	return s
}

func TestTheManifestsAreOfTheTypesOfKubernetesAndFitEachOther(t *testing.T) {
	for _, folder := range []string{"base", "gpu", "jobs"} {
		t.Run(folder, func(t *testing.T) {
			all := render(t, folder)
			deployment := all["Deployment"].(*appsv1.Deployment)
			pod := deployment.Spec.Template
			container := pod.Spec.Containers[0]
			assert.Equal(t, deployment.Spec.Selector.MatchLabels, pod.Labels)
			assert.Equal(t, pod.Labels, pod.Spec.TopologySpreadConstraints[0].LabelSelector.MatchLabels)

			service := all["Service"].(*corev1.Service)
			assert.Equal(t, pod.Labels, service.Spec.Selector)
			assert.Equal(t, container.Ports[0].Name, service.Spec.Ports[0].TargetPort.StrVal)
			assert.Equal(t, pod.Labels, all["PodDisruptionBudget"].(*policyv1.PodDisruptionBudget).Spec.Selector.MatchLabels)

			if folder == "jobs" {
				assert.NotContains(t, all, "HorizontalPodAutoscaler")
				assert.Equal(t, deployment.Name, all["ScaledObject"].(*scaledObject).Spec.ScaleTargetRef.Name)
			} else {
				scaler := all["HorizontalPodAutoscaler"].(*autoscalingv2.HorizontalPodAutoscaler)
				assert.Equal(t, deployment.Name, scaler.Spec.ScaleTargetRef.Name)
				assert.Equal(t, *deployment.Spec.Replicas, *scaler.Spec.MinReplicas)
			}

			assert.Equal(t, "/livez", container.LivenessProbe.HTTPGet.Path)
			assert.Equal(t, "/readyz", container.ReadinessProbe.HTTPGet.Path)
			assert.Equal(t, folder == "gpu", slices.Contains(container.Args, "--label=gpu"))
		})
	}
}

func TestAPodHasTheTimeToFinishItsCalls(t *testing.T) {
	pod := render(t, "base")["Deployment"].(*appsv1.Deployment).Spec.Template.Spec
	container := pod.Containers[0]
	const drain = 40
	assert.Contains(t, container.Args, "--drain-timeout=40s")
	assert.Greater(t, *pod.TerminationGracePeriodSeconds, container.Lifecycle.PreStop.Sleep.Seconds+drain)
}

func TestTheFilesOfTheArgumentsAreMounted(t *testing.T) {
	container := render(t, "base")["Deployment"].(*appsv1.Deployment).Spec.Template.Spec.Containers[0]
	for _, argument := range container.Args {
		_, path, ok := strings.Cut(argument, "=/")
		if !ok {
			continue
		}
		isMounted := slices.ContainsFunc(container.VolumeMounts, func(m corev1.VolumeMount) bool {
			return strings.HasPrefix("/"+path+"/", m.MountPath+"/")
		})
		assert.True(t, isMounted, argument)
	}
}

func TestAFieldThatKubernetesDoesNotHaveIsRefused(t *testing.T) {
	scheme := runtime.NewScheme()
	require.NoError(t, corev1.AddToScheme(scheme))
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	_, _, err := decoder.Decode([]byte("apiVersion: v1\nkind: Service\nspec: {port: []}\n"), nil, nil)
	assert.ErrorContains(t, err, `unknown field "spec.port"`)
}
