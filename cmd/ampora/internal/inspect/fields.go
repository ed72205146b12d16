package inspect

import (
	"bytes"
	"encoding/json"
)

// Field is one fact.
type Field struct {
	Name  string
	Value any
}

// Fields keep their order, also as a JSON object.
type Fields []Field

// MarshalJSON writes one object.
func (f Fields) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, field := range f {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(field.Name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(field.Value)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// add appends a fact, unless it is an empty string.
func (f *Fields) add(name string, value any) {
	if s, ok := value.(string); ok && s == "" {
		return
	}
	*f = append(*f, Field{name, value})
}

// Get is the value of a fact, or nil.
func (f Fields) Get(name string) any {
	for _, field := range f {
		if field.Name == name {
			return field.Value
		}
	}
	return nil
}
