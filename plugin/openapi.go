package ampora

import (
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// writeOut puts the schemas of requests and answers into an OpenAPI document wherever it refers to them. The framework
// refers to them by name, and Vault loses such references on their way from a plugin's process (sdk v0.25.1: the field Ref
// of framework.OASSchema has a name for JSON and none for mapstructure), so that sys/internal/specs/openapi would show
// neither.
func writeOut(resp *logical.Response) {
	if resp == nil {
		return
	}
	document, ok := resp.Data["openapi"].(*framework.OASDocument)
	if !ok {
		return
	}
	of := func(content framework.OASContent) {
		for _, media := range content {
			if schema := document.Components.Schemas[strings.TrimPrefix(media.Schema.Ref, "#/components/schemas/")]; schema != nil {
				media.Schema = schema
			}
		}
	}
	for _, path := range document.Paths {
		for _, operation := range []*framework.OASOperation{path.Get, path.Post, path.Patch, path.Delete} {
			if operation == nil {
				continue
			}
			if operation.RequestBody != nil {
				of(operation.RequestBody.Content)
			}
			for _, answer := range operation.Responses {
				of(answer.Content)
			}
		}
	}
}
