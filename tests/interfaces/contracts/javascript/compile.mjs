// Compiles every published schema as a JavaScript client does, and holds the examples to them.
// Reads {schemas, examples, documents} from stdin; prints {compiled, patterns, faults}.
import { readFileSync } from 'node:fs'
import Ajv from 'ajv'
import Ajv2020 from 'ajv/dist/2020.js'

const { schemas, examples, documents } = JSON.parse(readFileSync(0, 'utf8'))
// Formats come from another package, and `discriminator` is a keyword of OpenAPI.
const options = { strict: false, validateFormats: false, allErrors: true }
const faults = []
const patterns = new Set()
let compiled = 0

function compile(ajv, name, schema) {
  try {
    const validate = ajv.compile(schema)
    compiled += 1
    return validate
  } catch (error) {
    faults.push(`${name}: ${error.message}`)
    return null
  }
}

// Yields each place of the document as [pointer, name of the member, value]; what an example holds is not a schema.
function* places(value, pointer = '') {
  if (value === null || typeof value !== 'object') return
  for (const [member, inner] of Object.entries(value)) {
    if (member === 'example' || member === 'examples') continue
    const at = `${pointer}/${member.replaceAll('~', '~0').replaceAll('/', '~1')}`
    yield [at, member, inner]
    yield* places(inner, at)
  }
}

function readPatterns(name, document) {
  for (const [pointer, member, value] of places(document)) {
    if (member !== 'pattern' || typeof value !== 'string') continue
    patterns.add(value)
    try {
      new RegExp(value, 'u')
    } catch (error) {
      faults.push(`${name}${pointer}: ${error.message}`)
    }
  }
}

for (const [name, schema] of Object.entries(schemas)) {
  const validate = compile(new Ajv2020(options), name, schema)
  if (validate && !validate(examples[name])) {
    faults.push(`${name}: its example is refused: ${JSON.stringify(validate.errors)}`)
  }
  readPatterns(name, schema)
}

// document -> its dialect of JSON Schema, and the members that hold a schema.
const dialects = { openapi: [Ajv2020, ['schema']], asyncapi: [Ajv, ['payload', 'headers']] }
for (const [name, document] of Object.entries(documents)) {
  const [Dialect, members] = dialects[name]
  const ajv = new Dialect(options)
  ajv.addSchema(document, name)
  for (const [pointer, member, value] of places(document)) {
    const isSchema = /^\/components\/schemas\/[^/]+$/.test(pointer) || members.includes(member)
    if (isSchema && typeof value === 'object') compile(ajv, `${name}${pointer}`, { $ref: `${name}#${encodeURI(pointer)}` })
  }
  readPatterns(name, document)
}

console.log(JSON.stringify({ compiled, patterns: patterns.size, faults }))
