package ipc

import "bytes"

func (e *encoder) tensor(t *Tensor) *ValueError {
	if t == nil {
		_ = e.out.EncodeNil()
		return nil
	}
	if err := t.check(); err != nil {
		return err
	}
	e.extension(extTensor, func() {
		_ = e.out.EncodeArrayLen(3)
		_ = e.out.EncodeString(string(t.DType))
		_ = e.out.EncodeArrayLen(len(t.Shape))
		for _, dim := range t.Shape {
			_ = e.out.EncodeUint(uint64(dim))
		}
		e.data(t.Data)
	})
	return nil
}

func (e *encoder) audio(a *Audio) *ValueError {
	if a == nil {
		_ = e.out.EncodeNil()
		return nil
	}
	if err := a.check(); err != nil {
		return err
	}
	e.extension(extAudio, func() {
		_ = e.out.EncodeArrayLen(3)
		_ = e.out.EncodeUint(uint64(a.Rate))
		_ = e.out.EncodeUint(uint64(a.Channels))
		e.data(bytesOf(a.Samples))
	})
	return nil
}

func (e *encoder) image(m *Image) *ValueError {
	if m == nil {
		_ = e.out.EncodeNil()
		return nil
	}
	if err := m.check(); err != nil {
		return err
	}
	e.extension(extImage, func() {
		_ = e.out.EncodeArrayLen(5)
		_ = e.out.EncodeString(m.Format)
		_ = e.out.EncodeUint(uint64(m.Width))
		_ = e.out.EncodeUint(uint64(m.Height))
		if m.PTS == nil {
			_ = e.out.EncodeNil()
		} else {
			_ = e.out.EncodeFloat64(*m.PTS)
		}
		e.data(m.Pixels)
	})
	return nil
}

func (e *encoder) json(j JSON) *ValueError {
	if err := j.check(); err != nil {
		return err
	}
	e.extension(extJSON, func() { e.buf.Write(j) })
	return nil
}

// data writes bytes in place where they are few, else leaves them to the
// frame's buffers.
func (e *encoder) data(b []byte) {
	if len(b) < OutOfBand {
		e.bytes(b)
		return
	}
	_ = e.out.EncodeNil()
	e.buffers = append(e.buffers, b)
}

// extension writes an extension whose payload the function writes. The payload
// is small, large data being out of band, so it is written first and moved
// behind its header.
func (e *encoder) extension(code int8, write func()) {
	start := e.buf.Len()
	write()
	payload := bytes.Clone(e.buf.Bytes()[start:])
	e.buf.Truncate(start)
	_ = e.out.EncodeExtHeader(code, len(payload))
	e.buf.Write(payload)
}
