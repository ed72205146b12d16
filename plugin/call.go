package ampora

import (
	"context"
	"fmt"
	"reflect"
	"strings"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// call is one request: who makes it, the tenant that its path confines it to ("" without one), and its fields.
type call struct {
	origin audit.Origin
	tenant string
	data   *framework.FieldData
}

// text is a field's value, or its default.
func (c call) text(field string) string { return c.data.Get(field).(string) }

// nothing stands for a request without fields, or an answer without data (204).
type nothing struct{}

// serve makes a path's operation of a domain call: it decodes the request's fields into In, and encodes Out, with its
// warning if it has one.
func serve[In, Out any](b *backend, f func(context.Context, call, In) (Out, error)) framework.OperationFunc {
	return b.handle(func(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
		tenant, err := pathTenant(req, data)
		if err != nil {
			return nil, err
		}
		var in In
		if _, without := any(in).(nothing); !without {
			if in, err = decode[In](data); err != nil {
				return nil, err
			}
		}
		out, err := f(ctx, call{origin: origin(req), tenant: tenant, data: data}, in)
		if err != nil {
			return nil, err
		}
		if _, without := any(out).(nothing); without {
			return nil, nil
		}
		resp, err := encode(out)
		if w, warns := any(out).(interface{ warning() string }); warns && err == nil && w.warning() != "" {
			resp.AddWarning(w.warning())
		}
		return resp, err
	})
}

// encode makes an answer of an apitype value: a map of its fields, by their JSON names. Vault makes JSON of it, once.
func encode(value any) (*logical.Response, error) {
	v := reflect.Indirect(reflect.ValueOf(value))
	if v.Kind() != reflect.Struct {
		return nil, fmt.Errorf("encoding: %s is no answer", v.Kind())
	}
	data := make(map[string]any, v.NumField())
	fill(data, v)
	return &logical.Response{Data: data}, nil
}

func fill(data map[string]any, v reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch value := v.Field(i); {
		case f.Anonymous && tag == "":
			fill(data, value)
		case tag == "-", strings.Contains(options, "omitempty") && isEmpty(value), strings.Contains(options, "omitzero") && value.IsZero():
		default:
			data[tag] = value.Interface()
		}
	}
}

// isEmpty is what encoding/json leaves out under omitempty.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Bool, reflect.Pointer, reflect.Interface:
		return v.IsZero()
	}
	return v.CanConvert(reflect.TypeFor[float64]()) && v.IsZero()
}

// tenantInPath refuses a tenant in the body of what is named inside its tenant: it would make or change another thing than
// the path says. On a tenant's path the path has overridden the body.
func (c call) tenantInPath(resource string) error {
	if c.tenant == "" && c.text(tenantField) != "" {
		return apitype.Errorf(apitype.FieldInvalid, "the tenant stands in the path: ampora/tenants/<tenant>/%s/<name>", resource)
	}
	return nil
}
