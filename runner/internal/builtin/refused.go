package builtin

// refusal is a reason for which gophersnake does not have some types.
type refusal struct {
	why, instead string
	names        []string
}

// client are types whose classes are in the package remotemedia-client, by their modules.
var client = []refusal{
	{names: []string{"ChainedTransformNode", "ConditionalExpanderNode", "ExpanderNode", "FilterNode", "RangeGeneratorNode", "TransformAndExpandNode"}, instead: "test_nodes"},
	{names: []string{"KokoroTTSNode"}, instead: "tts"},
	{names: []string{"VibeVoiceTTSNode"}, instead: "tts_vibevoice"},
	{names: []string{"VoxtralTTSNode"}, instead: "tts_voxtral"},
	{names: []string{"CosyVoice3TTSNode"}, instead: "tts_cosyvoice3"},
	{names: []string{"KimodoMotionNode"}, instead: "kimodo_motion"},
	{names: []string{"SimplePyTorchNode"}, instead: "simple_pytorch_test"},
	{names: []string{"HFWhisperNode"}, instead: "ml.whisper_transcription"},
	{names: []string{"WhisperXNode"}, instead: "transcription"},
	{names: []string{"WhisperSTTNode"}, instead: "ml.whisper_stt"},
	{names: []string{"LFM2AudioMlxNode"}, instead: "ml.lfm2_audio_mlx"},
	{names: []string{"LFM2AudioNode"}, instead: "ml.lfm2_audio"},
	{names: []string{"LFM2DemoAgentNode"}, instead: "ml.lfm2_demo_agent"},
	{names: []string{"LFM2InstructAgentNode"}, instead: "ml.lfm2_instruct_agent"},
	{names: []string{"LFM2TextNode"}, instead: "ml.lfm2_text"},
	{names: []string{"MossSoundEffectNode", "MossTTSNode", "MossVoiceGeneratorNode"}, instead: "ml.moss_tts"},
	{names: []string{"MossTTSRealtimeNode"}, instead: "ml.moss_tts_realtime"},
	{names: []string{"ParakeetEouNode"}, instead: "ml.parakeet_eou"},
	{names: []string{"PersonaPlexAudioMlxNode"}, instead: "ml.personaplex_audio_mlx"},
	{names: []string{"QwenTTSMlxNode"}, instead: "ml.qwen_tts_mlx"},
	{names: []string{"QwenTextMlxNode"}, instead: "ml.qwen_text_mlx"},
	{names: []string{"ToolClassifierNode"}, instead: "ml.tool_classifier"},
}

// refusals are the types of the runtime itself that gophersnake does not have.
var refusals = []refusal{
	{
		why:     "it needs a model that is not in a package",
		instead: "write a node in Python around the model",
		names: []string{
			"Audio2FaceNode", "EmotionExtractorNode", "SpeakerDiarizationNode", "RustWhisperNode", "WhisperNode", "WhisperSTT",
		},
	},
	{
		why:     "it calls the server of a language model",
		instead: "write an async node in Python with the server's client",
		names:   []string{"MultimodalLLMNode", "OpenAIChatNode"},
	},
	{
		why:     "pipelines do not call pipelines of other machines yet",
		instead: "write a node in Python that calls the other machine",
		names:   []string{"RemotePipelineNode"},
	},
	{
		why:     "it steers a conversation by control messages, which gophersnake's streams do not have",
		instead: "write a stateful node in Python",
		names: []string{
			"ConversationCoordinatorNode", "S2SCoordinatorNode", "SpeculativeAudioCommitNode", "SpeculativeVADGate",
			"SpeculativeVADCoordinator", "ToolExecutorNode", "EnvelopeDebugLogNode", "EnvelopeFirstNotifierNode",
		},
	},
	{
		why:     "it animates an avatar of RemoteMedia's renderer",
		instead: "write a node in Python",
		names: []string{
			"AffectSimulatorNode", "AvatarIntentTapNode", "AvatarNode", "IdleAnimationNode", "MotionPlayerNode",
			"RenderReadyGateNode", "SyntheticLipSyncNode",
		},
	},
	{
		why:     "it reports on a session by arrival times, which gophersnake's values do not have",
		instead: "use runner.WithEvents, Runner.Health and Runner.Metrics, or AudioLevelNode, SilenceDetectorNode and SileroVADNode for the recording itself",
		names: []string{
			"AudioEvidenceNode", "ConversationFlowNode", "EventCorrelatorNode", "HealthEmitterNode", "SessionHealthNode",
			"SpeechPresenceNode", "TimingDriftNode",
		},
	},
	{
		why:     "gophersnake has no video codec",
		instead: "write a node in Python with the package av",
		names:   []string{"VideoDecoder", "VideoEncoder"},
	},
	{
		why:     "it compares frames for RemoteMedia's tools",
		instead: "write a node in Python with NumPy",
		names:   []string{"VideoFrameDiffNode"},
	},
	{
		why:     "the caller of a pipeline writes its results",
		instead: "use gophersnake run --output or gophersnake stream",
		names:   []string{"AudioFileWriterNode", "VideoFileWriterNode", "SrtOutput"},
	},
	{
		why:     "it opens a sound device",
		instead: "pipe PCM into gophersnake stream, and its output into a player",
		names:   []string{"MicInput", "SpeakerOutput"},
	},
}

// refused returns the types that gophersnake does not have.
func refused() []Type {
	var types []Type
	for _, r := range client {
		for _, name := range r.names {
			class := map[string]string{"HFWhisperNode": "WhisperTranscriptionNode", "WhisperXNode": "WhisperXTranscriber"}[name]
			if class == "" {
				class = name
			}
			types = append(types, Type{
				Name: name, Refused: "its class is in the Python package remotemedia-client",
				Instead: "add that package to the requirements, and to the node python: remotemedia.nodes." + r.instead + ":" + class,
			})
		}
	}
	for _, r := range refusals {
		for _, name := range r.names {
			types = append(types, Type{Name: name, Refused: r.why, Instead: r.instead})
		}
	}
	return types
}
