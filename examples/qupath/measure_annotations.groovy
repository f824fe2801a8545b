/*
 * Measures every annotation of the slide that is open, after import_results.groovy: how much of it
 * each class covers (um^2 and percent), and how many nuclei of each class lie in it, by centroid.
 *
 * Annotations that were drawn by hand are measured; those with a measurement of ours are the
 * classes. The numbers appear in QuPath's table of annotations (Measure > Show annotation
 * measurements), and as CSV where a file is given:
 *
 *   QuPath script --image SLIDE.svs --args OUT.csv measure_annotations.groovy
 */
def OURS = "Area \u00b5m^2"
def cal = getCurrentServer().getPixelCalibration()
def um2 = cal.getPixelWidthMicrons() * cal.getPixelHeightMicrons()

def annotations = getAnnotationObjects()
def classes = annotations.findAll { it.measurements.containsKey(OURS) }
def drawn = annotations - classes
def nuclei = getDetectionObjects()

drawn.each { annotation ->
    def outline = annotation.getROI().getGeometry()
    def whole = outline.getArea()
    classes.groupBy { it.getPathClass()?.toString() ?: "none" }.each { name, members ->
        def covered = members.sum { it.getROI().getGeometry().intersection(outline).getArea() }
        annotation.measurements[name + " \u00b5m^2"] = covered * um2
        annotation.measurements[name + " %"] = whole > 0 ? 100 * covered / whole : 0
    }
    def inside = nuclei.findAll {
        annotation.getROI().contains(it.getROI().getCentroidX(), it.getROI().getCentroidY())
    }
    inside.groupBy { it.getPathClass()?.toString() ?: "none" }.each { name, members ->
        annotation.measurements["Nuclei: " + name] = members.size()
    }
    annotation.measurements["Nuclei per mm^2"] = whole > 0 ? 1e6 * inside.size() / (whole * um2) : 0
}
fireHierarchyUpdate()
println drawn.size() + " annotations measured"

if (args.length > 0) {
    saveAnnotationMeasurements(args[0])
}
