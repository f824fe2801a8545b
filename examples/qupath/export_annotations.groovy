/*
 * Writes the annotations that were drawn by hand, for wsi-prepare and wsi-train.
 *
 *   QuPath script --project PROJECT.qpproj --args FOLDER export_annotations.groovy
 *
 * makes FOLDER/NAME.geojson for every slide NAME.svs with such annotations. Then, for example,
 *
 *   wsi-prepare slide A.svs FOLDER/A.geojson B.svs FOLDER/B.geojson --mpp 1 --tile 256 --out data
 *
 * Areas without a class are left out with a word, and so is what wsi-segment made itself: a model
 * is not to learn from another model's answers by accident.
 */
def folder = args.length > 0 ? args[0] : buildFilePath(PROJECT_BASE_DIR, "annotations")
def OURS = "Area \u00b5m^2"

def name = GeneralTools.stripExtension(getCurrentImageName())
def drawn = getAnnotationObjects().findAll { !it.measurements.containsKey(OURS) }
def classed = drawn.findAll { it.getPathClass() != null }
if (classed.size() < drawn.size()) {
    println name + ": " + (drawn.size() - classed.size()) + " annotations without a class left out"
}
if (classed.isEmpty()) {
    println name + ": nothing to export"
    return
}
new File(folder).mkdirs()
def file = buildFilePath(folder, name + ".geojson")
exportObjectsToGeoJson(classed, file, "FEATURE_COLLECTION")
println name + ": " + classed.size() + " annotations to " + file
