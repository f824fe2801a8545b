/*
 * Loads the polygons or nuclei that wsi-segment wrote into the slides of a project.
 *
 *   QuPath script --project PROJECT.qpproj --save --args FOLDER import_results.groovy
 *
 * FOLDER holds NAME.geojson (or .geojson.gz, .geojson.zip) for a slide NAME.svs. Within QuPath
 * (Automate > Script editor) set `results` below instead, and run it for the project.
 */
def results = args.length > 0 ? args[0] : "/results"

def name = GeneralTools.stripExtension(getCurrentImageName())
def file = [".geojson", ".geojson.gz", ".geojson.zip"]
    .collect { new File(results, name + it) }
    .find { it.isFile() }
if (file == null) {
    println "no result for " + name + " in " + results
    return
}
clearAllObjects()   // leave this out to keep what is there; twice would add every object twice
importObjectsFromFile(file.path)
println name + ": " + getAllObjects(false).size() + " objects"
