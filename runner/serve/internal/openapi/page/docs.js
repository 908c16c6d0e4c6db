// The page that shows the OpenAPI document of a service, and calls its operations.

const streams = ['application/x-ndjson', 'text/event-stream']
let spec
let token = ''

// make returns an element. Properties and children may be missing.
function make(name, properties = {}, ...children) {
  const element = document.createElement(name)
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value
    else element.setAttribute(key, value)
  }
  element.append(...children.filter(child => child !== undefined && child !== null))
  return element
}

const code = text => make('pre', {tabIndex: 0}, make('code', {}, text))

// resolve follows a reference within the document.
function resolve(value) {
  for (let i = 0; value && value.$ref && i < 20; i++) {
    value = value.$ref.slice(2).split('/').reduce((at, part) => at[part.replaceAll('~1', '/').replaceAll('~0', '~')], spec)
  }
  return value ?? {}
}

// schemaText returns a schema with the components that it refers to.
function schemaText(schema) {
  const used = {}
  const visit = value => {
    if (typeof value !== 'object' || value === null) return
    if (typeof value.$ref === 'string' && !(value.$ref in used)) {
      used[value.$ref] = resolve({$ref: value.$ref})
      visit(used[value.$ref])
    }
    Object.values(value).forEach(visit)
  }
  visit(schema)
  const text = [JSON.stringify(schema, null, 2)]
  for (const [name, definition] of Object.entries(used)) text.push(`${name}: ${JSON.stringify(definition, null, 2)}`)
  return text.join('\n\n')
}

const quote = text => `'${text.replaceAll("'", `'\\''`)}'`

// curl returns the command for an operation.
function curl(path, method, operation) {
  const parts = ['curl', '-s', quote(new URL(path.slice(1), new URL('.', location.href)).href)]
  if (spec.security) parts.push('-H', quote('Authorization: Bearer TOKEN'))
  const content = operation.requestBody?.content ?? {}
  const type = Object.keys(content)[0]
  if (method !== 'get' && 'application/json' in content) {
    parts.push('-H', quote('Content-Type: application/json'), '-d', quote(JSON.stringify(content['application/json'].example ?? null)))
  } else if (type) {
    parts.push('-H', quote('Content-Type: ' + type), '--data-binary', '@FILE')
  }
  return parts.join(' ')
}

// responses returns the table of the answers of an operation.
function responses(operation) {
  const rows = Object.entries(operation.responses).map(([status, reference]) => {
    const response = resolve(reference)
    return make('tr', {}, make('th', {scope: 'row'}, status), make('td', {}, response.description ?? ''),
      make('td', {}, Object.keys(response.content ?? {}).join(', ')))
  })
  const head = make('tr', {}, ...['Status', 'Meaning', 'Types'].map(title => make('th', {scope: 'col'}, title)))
  return make('table', {}, make('thead', {}, head), make('tbody', {}, ...rows))
}

// field returns a labeled control.
function field(id, title, control) {
  control.id = id
  return [make('label', {htmlFor: id}, title), control]
}

const options = values => values.map(value => make('option', {value}, value))

// tryForm returns the form that sends a request.
function tryForm(path, method, operation) {
  const id = operation.operationId
  const content = operation.requestBody?.content ?? {}
  const types = Object.keys(content).filter(type => type !== 'multipart/form-data')
  const accepted = Object.keys(resolve(operation.responses['200']).content ?? {})
  const type = make('select', {}, ...options(types))
  const text = make('textarea', {spellcheck: false})
  const file = make('input', {type: 'file'})
  const accept = make('select', {}, ...options(accepted))
  const send = make('button', {}, 'Send')
  const result = make('div', {role: 'status', ariaLive: 'polite'})
  const fill = () => {
    const value = content['application/json']?.example ?? null
    text.value = type.value === 'application/json' ? JSON.stringify(value, null, 2)
      : type.value === 'application/x-ndjson' ? JSON.stringify(value) : ''
  }
  type.addEventListener('change', fill)
  fill()
  const form = make('form', {}, ...(types.length ? [
    ...field(id + '-type', 'Type of the body', type), ...field(id + '-text', 'Body', text),
    ...field(id + '-file', 'or a file', file)] : []), ...field(id + '-accept', 'Type of the answer', accept), send)
  form.addEventListener('submit', async event => {
    event.preventDefault()
    send.disabled = true
    result.replaceChildren('…')
    try {
      const headers = {Accept: accept.value}
      if (token) headers.Authorization = 'Bearer ' + token
      const request = {method: method.toUpperCase(), headers}
      if (types.length) {
        headers['Content-Type'] = type.value
        request.body = file.files[0] ?? text.value
      }
      await show(result, await fetch(path.slice(1), request))
    } catch (error) {
      result.replaceChildren(make('p', {className: 'bad'}, String(error)))
    }
    send.disabled = false
  })
  return [form, result]
}

// show shows an answer, a stream while it arrives.
async function show(result, answer) {
  const type = (answer.headers.get('Content-Type') ?? '').split(';')[0]
  const status = make('p', {className: answer.ok ? '' : 'bad'}, `${answer.status} ${answer.statusText}, ${type}`)
  result.replaceChildren(status)
  if (streams.includes(type)) {
    const text = make('code')
    result.append(make('pre', {tabIndex: 0}, text))
    for await (const part of answer.body.pipeThrough(new TextDecoderStream())) text.append(part)
    return
  }
  if (type.startsWith('image/') || type.startsWith('audio/')) {
    const src = URL.createObjectURL(await answer.blob())
    result.append(type.startsWith('image/') ? make('img', {src, alt: 'the result'}) : make('audio', {src, controls: true}))
    return
  }
  if (type.startsWith('text/') || type.endsWith('json')) {
    result.append(code(await answer.text()))
    return
  }
  result.append(make('p', {}, `${(await answer.blob()).size} bytes`))
}

// section returns what the page says about an operation.
function section(path, method, operation) {
  const body = make('div')
  if (operation.description) body.append(make('p', {}, operation.description))
  const content = operation.requestBody?.content ?? {}
  for (const [type, {schema}] of Object.entries(content)) {
    body.append(make('h4', {}, `Body: ${type}`), code(schemaText(schema)))
  }
  for (const parameter of (operation.parameters ?? []).map(resolve)) {
    body.append(make('p', {}, make('code', {}, parameter.name), ` (${parameter.in}): ${parameter.description}`))
  }
  for (const [type, {schema}] of Object.entries(resolve(operation.responses['200']).content ?? {})) {
    body.append(make('h4', {}, `Result: ${type}`), code(schemaText(schema)))
  }
  body.append(make('h4', {}, 'Answers'), responses(operation))
  if (!operation.responses['101']) {
    body.append(make('h4', {}, 'With curl'), code(curl(path, method, operation)), make('h4', {}, 'Try it'), ...tryForm(path, method, operation))
  }
  const title = make('h3', {}, make('span', {className: 'method'}, method.toUpperCase()), ' ', path)
  return make('details', {id: operation.operationId}, make('summary', {}, title, ' ', make('span', {className: 'muted'}, operation.summary)), body)
}

// open opens the operation that the address names.
function open() {
  const named = document.getElementById(decodeURIComponent(location.hash.slice(1)))
  if (named?.tagName === 'DETAILS') named.open = true
  named?.scrollIntoView()
}

async function load() {
  const state = make('p', {role: 'status'}, 'Loading…')
  const main = document.getElementById('main')
  main.replaceChildren(state)
  const answer = await fetch('openapi.json', {headers: token ? {Authorization: 'Bearer ' + token} : {}})
  document.getElementById('access').hidden = answer.status !== 401 && !token
  if (!answer.ok) {
    state.textContent = answer.status === 401 ? 'The service needs a token.' : `The document cannot be read: ${answer.status} ${answer.statusText}`
    return
  }
  spec = await answer.json()
  document.getElementById('about').textContent = spec.info.description
  const contents = document.getElementById('contents')
  contents.replaceChildren()
  main.replaceChildren()
  for (const tag of spec.tags) {
    contents.append(make('li', {}, make('a', {href: `#tag-${tag.name}`}, tag.name)))
    main.append(make('h2', {id: `tag-${tag.name}`}, tag.name), make('p', {className: 'muted'}, tag.description ?? ''))
    for (const [path, methods] of Object.entries(spec.paths)) {
      for (const [method, operation] of Object.entries(methods)) {
        if (operation.tags.includes(tag.name)) main.append(section(path, method, operation))
      }
    }
  }
  open()
}

document.getElementById('access').addEventListener('submit', event => {
  event.preventDefault()
  token = document.getElementById('token').value.trim()
  start()
})
window.addEventListener('hashchange', open)

function start() {
  load().catch(error => document.getElementById('main').replaceChildren(make('p', {className: 'bad', role: 'status'}, String(error))))
}
start()
