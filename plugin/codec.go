package ampora

import (
	"encoding/json"
	"math"
	"net/http"
	"reflect"
	"strings"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// decode makes a request of the fields that were given, by their JSON names.
func decode[T any](data *framework.FieldData) (T, error) {
	var out T
	v := reflect.ValueOf(&out).Elem()
	for i := range v.NumField() {
		if err := decodeField(data, v.Type().Field(i), v.Field(i)); err != nil {
			return out, err
		}
	}
	return out, nil
}

func decodeField(data *framework.FieldData, f reflect.StructField, to reflect.Value) error {
	field, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if f.Anonymous && field == "" {
		for i := range to.NumField() {
			if err := decodeField(data, f.Type.Field(i), to.Field(i)); err != nil {
				return err
			}
		}
		return nil
	}
	if _, given := data.Raw[field]; !given || data.Schema[field] == nil {
		return nil
	}
	value, ok, err := data.GetOkErr(field)
	switch {
	case err != nil:
		return apitype.Errorf(apitype.FieldInvalid, "%s has the wrong type", field)
	case ok && isFraction(data.Schema[field].Type, data.Raw[field]):
		return apitype.Errorf(apitype.FieldInvalid, "%s is no whole number", field)
	case ok && !set(to, value):
		return apitype.Errorf(apitype.FieldInvalid, "%s has the wrong type", field)
	}
	return nil
}

// set puts a value into a field of a request, and reports whether it fits. What the framework gives the field's own type is
// taken as it is; only of all else JSON is made.
func set(to reflect.Value, value any) bool {
	if v := reflect.ValueOf(value); v.IsValid() && v.Type() == to.Type() {
		to.Set(v)
		return true
	}
	text, err := json.Marshal(value)
	return err == nil && json.Unmarshal(text, to.Addr().Interface()) == nil
}

// isFraction reports whether the framework has cut a number down to make a whole one of it.
func isFraction(kind framework.FieldType, raw any) bool {
	if kind != framework.TypeInt && kind != framework.TypeInt64 {
		return false
	}
	switch n := raw.(type) {
	case json.Number:
		return strings.ContainsAny(n.String(), ".eE")
	case float64:
		return n != math.Trunc(n)
	}
	return false
}

// answer encodes what a domain call answered, or passes its error on.
func answer(value any, err error) (*logical.Response, error) {
	if err != nil {
		return nil, err
	}
	return encode(value)
}

// responses is the schema of an answer, read off the apitype value that is encoded: what is always there is required.
func responses(description string, value any) map[int][]framework.Response {
	return map[int][]framework.Response{http.StatusOK: {{Description: description, Fields: fieldsOf(reflect.TypeOf(value))}}}
}

// noContent is the schema of an answer without data.
func noContent(description string) map[int][]framework.Response {
	return map[int][]framework.Response{http.StatusNoContent: {{Description: description}}}
}

func fieldsOf(t reflect.Type) map[string]*framework.FieldSchema {
	fields := map[string]*framework.FieldSchema{}
	for i := range t.NumField() {
		f := t.Field(i)
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == "-" {
			continue
		}
		fields[tag] = &framework.FieldSchema{
			Type:        fieldType(f.Type),
			Required:    !strings.Contains(options, "omit"),
			Description: strings.ReplaceAll(tag, "_", " "),
		}
	}
	return fields
}

func fieldType(t reflect.Type) framework.FieldType {
	if t == reflect.TypeFor[apitype.RevokedSet]() || t == reflect.TypeFor[apitype.AgentIDs]() { // they write themselves as one
		return framework.TypeString
	}
	switch t.Kind() {
	case reflect.Pointer:
		return fieldType(t.Elem())
	case reflect.Bool:
		return framework.TypeBool
	case reflect.Int, reflect.Int64, reflect.Uint32, reflect.Uint64:
		return framework.TypeInt64
	case reflect.Slice:
		return framework.TypeSlice
	case reflect.Map, reflect.Struct:
		return framework.TypeMap
	}
	return framework.TypeString
}

// origin is who makes the request.
func origin(req *logical.Request) audit.Origin {
	o := audit.Origin{Actor: apitype.Actor{DisplayName: req.DisplayName, EntityID: req.EntityID}, RequestID: req.ID}
	if req.Connection != nil {
		o.SourceIP = req.Connection.RemoteAddr
	}
	return o
}

// page reads 'after' and 'limit'.
func page(data *framework.FieldData) (apitype.Page, error) {
	p := apitype.Page{After: data.Get("after").(string), Limit: data.Get("limit").(int)}
	for field, to := range map[string]*string{"pool": &p.Pool, "group": &p.Group, "state": &p.State} {
		if _, filters := data.Schema[field]; filters {
			*to = data.Get(field).(string)
		}
	}
	if p.Limit < 0 {
		return p, apitype.Errorf(apitype.FieldInvalid, "limit must not be negative")
	}
	return p, nil
}

var pageFields = map[string]*framework.FieldSchema{
	"after": {Type: framework.TypeString, Query: true, Description: "Answer only what comes after this id."},
	"limit": {Type: framework.TypeInt, Query: true, Description: "Answer at most this many; 0 means all."},
}

// filterFields select rows in lists of tokens and agents.
var filterFields = map[string]*framework.FieldSchema{
	"pool":  {Type: framework.TypeString, Query: true, Description: "Only those that come from the pool of this name."},
	"group": {Type: framework.TypeString, Query: true, Description: "Only those of this group."},
}

const tenantField = "tenant"

// tenantPrefix is what a tenant-scoped path has in front.
const tenantPrefix = "tenants/(?P<" + tenantField + ">[^/]+)/"

// scoped gives a path a second time below tenants/<tenant>/. It is a second pattern and not an optional part of the first,
// because an empty capture would override a field of the body. What the path says of the tenant wins over the body.
func scoped(p *framework.Path) []*framework.Path {
	second := *p
	second.Pattern = tenantPrefix + p.Pattern
	second.Fields = map[string]*framework.FieldSchema{}
	for k, v := range p.Fields {
		second.Fields[k] = v
	}
	second.Fields[tenantField] = &framework.FieldSchema{Type: framework.TypeString, Description: "Name of the tenant that the call is confined to."}
	if p.DisplayAttrs != nil {
		attrs := *p.DisplayAttrs
		attrs.OperationPrefix = operationPrefix + "-tenant"
		second.DisplayAttrs = &attrs
	}
	return []*framework.Path{p, &second}
}

// pathTenant is the tenant that the path confines the call to, or "" without one.
func pathTenant(req *logical.Request, data *framework.FieldData) (string, error) {
	if !strings.HasPrefix(req.Path, "tenants/") {
		return "", nil
	}
	tenant := data.Get(tenantField).(string)
	return tenant, name.Check(tenantField, tenant)
}

// with joins field maps.
func with(maps ...map[string]*framework.FieldSchema) map[string]*framework.FieldSchema {
	all := map[string]*framework.FieldSchema{}
	for _, m := range maps {
		for k, v := range m {
			all[k] = v
		}
	}
	return all
}

// forwarded marks an operation as one that only the active node of the primary may serve: it signs, holds locks or reads
// memory that only that node has.
func forwarded(h framework.OperationFunc, summary string, answers map[int][]framework.Response, verb string) *framework.PathOperation {
	op := &framework.PathOperation{
		Callback: h, Summary: summary, Responses: answers, ForwardPerformanceStandby: true, ForwardPerformanceSecondary: true,
	}
	if verb != "" {
		op.DisplayAttrs = &framework.DisplayAttributes{OperationVerb: verb}
	}
	return op
}

// segment captures one path segment of any characters: the handler says what is wrong with it, better than a 404.
func segment(field string) string { return "(?P<" + field + ">[^/]+)" }

// display names operations for generated clients and documentation.
func display(suffix string) *framework.DisplayAttributes {
	return &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: suffix}
}
