// Starts the viewer of the API reference. It must ask no other host: not for fonts, statistics, a proxy or its assistant.
Scalar.createApiReference("#reference", {
  url: "/openapi.json",
  // The page may call only the host that served it.
  servers: [{ url: location.origin, description: "This installation" }],
  withDefaultFonts: false,
  telemetry: false,
  agent: { disabled: true },
  showDeveloperTools: "never",
  hideClientButton: true,
  orderSchemaPropertiesBy: "preserve",
  defaultHttpClient: { targetKey: "shell", clientKey: "curl" },
  hiddenClients: [
    "c", "clojure", "csharp", "dart", "fsharp", "go", "http", "java", "js", "kotlin", "objc", "ocaml", "php",
    "powershell", "r", "ruby", "rust", "swift",
  ],
});
